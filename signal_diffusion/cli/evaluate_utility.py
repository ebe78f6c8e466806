"""`signal-diffusion evaluate utility`: what synthetic windows are worth to a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.errors import UserError

__all__ = ["utility"]


def utility(
    synthetic: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES",
            help="Synthetic windows: a folder that `sample` wrote, a dataset, or a folder of FIF or EDF files.",
        ),
    ],
    real: Annotated[
        str,
        typer.Option(metavar="DATASET[:SPLIT]", help="Real windows to test on; its test split.", show_default=False),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write to; must not exist yet.", show_default=False)],
    train: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET[:SPLIT]",
            help="What the model was trained on. With the same people as in --real, there are five folds by person.",
            show_default="the train split of --real",
        ),
    ] = None,
    task: Annotated[
        str,
        typer.Option(metavar="COLUMN", help="What is predicted: label, gender, …; age by regression."),
    ] = "label",
    classifiers: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="logreg, riemann or eegnet. EEGNet takes about a minute for each of 65 trainings per seed.",
        ),
    ] = "logreg,riemann",
    seeds: Annotated[int, typer.Option(help="Repetitions with other people, windows and augmentations.")] = 5,
) -> None:
    """Train classifiers with and without synthetic windows, and test them on people they were not trained on.

    TRTR, TSTR and TRTS, and what is gained by adding 0.5, 1 or 2 synthetic windows per training window, for 10, 25, 50
    and 100 % of the training people, next to augmentations of braindecode. Needs the extra `evaluation`.
    """
    if output.exists():
        raise UserError(f"{output} already exists; choose another --output, or remove it")
    from signal_diffusion.evaluation.utility.evaluating import evaluate_utility, save_figure

    with progress_bars() as progress:
        found = evaluate_utility(
            synthetic,
            real,
            train=train,
            task=task,
            classifiers=[name.strip() for name in classifiers.split(",")],
            seeds=seeds,
            on_fit=lambda done, total: progress("training classifiers", done, total),
        )
    files = [*found.save(output), save_figure(found, output)]
    print(found.to_text())
    print(f"{output}: {', '.join(file.name for file in files)}")
