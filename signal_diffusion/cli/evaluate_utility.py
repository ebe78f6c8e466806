"""`signal-diffusion evaluate utility`: what synthetic windows are worth to a classifier."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from signal_diffusion.cli.lists import names_in
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.sample import Sets, Steps
from signal_diffusion.cli.workers import Cluster, Workers
from signal_diffusion.errors import UserError
from signal_diffusion.executing.clusters import check_workers

if TYPE_CHECKING:
    from signal_diffusion.evaluation.utility.result import Utility
    from signal_diffusion.evaluation.windows import Windows

__all__ = ["check_start", "measured_utility", "save_utility", "utility"]


def utility(
    synthetic: Annotated[
        Path,
        typer.Argument(
            metavar="SAMPLES|RUN",
            help="Synthetic windows: a folder that `sample` wrote, a dataset, or a folder of FIF or EDF files; or a "
            "run or an exported model, which generates them with the conditions of the training windows.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write to; must not exist yet.", show_default=False)],
    real: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET[:SPLIT]",
            help="Real windows to test on.",
            show_default="the test split; of a run, that of its dataset",
        ),
    ] = None,
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
            help="logreg, riemann or eegnet. EEGNet takes seconds for each of 33 trainings per seed.",
        ),
    ] = "logreg,riemann",
    seeds: Annotated[int, typer.Option(help="Repetitions with other people, windows and augmentations.")] = 5,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Only 25 and 100 % of the people, k = 1, and FTSurrogate: 7 trainings per seed."),
    ] = False,
    workers: Workers = 1,
    cluster: Cluster = None,
    num: Annotated[
        int | None, typer.Option(min=1, help="Windows that a run generates.", show_default="twice the training windows")
    ] = None,
    steps: Steps = None,
    sets: Sets = None,
) -> None:
    """Train classifiers with and without synthetic windows, and test them on people they were not trained on.

    TRTR, TSTR and TRTS, and what is gained by adding 0.5, 1 or 2 synthetic windows per training window, for 10, 25, 50
    and 100 % of the training people, next to augmentations of braindecode. Needs the extra `evaluation`.
    """
    check_start(output)
    check_workers(workers, cluster)
    found = measured_utility(
        synthetic,
        real,
        train,
        names_in(classifiers),
        task=task,
        seeds=seeds,
        quick=quick,
        workers=None if workers == 1 and cluster is None else (workers, cluster, output.parent),
        num=num,
        steps=steps,
        sets=sets,
    )
    files = save_utility(found, output)
    print(found.to_text())
    print(f"{output}: {', '.join(file.name for file in files)}")


def check_start(output: Path) -> None:
    """Check that nothing is overwritten, and that no launcher started several processes to do all of it."""
    if output.exists():
        raise UserError(f"{output} already exists; choose another --output, or remove it")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "evaluate works in one process; run it without a launcher (sample and evaluate privacy share their work)"
        )


def measured_utility(
    synthetic: Path,
    real: str | None,
    train: str | None,
    classifiers: list[str],
    *,
    task: str = "label",
    seeds: int = 5,
    quick: bool = False,
    workers: tuple[int, str | None, Path] | None = None,
    num: int | None = None,
    steps: int | None = None,
    sets: list[str] | None = None,
    guidance_scale: float | None = None,
) -> Utility:
    """Measure the utility of what a folder contains or a model generates; the options are those of `utility`.

    `workers` is (number, cluster, folder that they share); None = this process.
    """
    from signal_diffusion.evaluation.utility.classifiers import check_classifiers, require_extra

    require_extra()
    check_classifiers(classifiers)
    from signal_diffusion.cli.evaluated_model import check_not_for_files, is_model, real_of, windows_of_model
    from signal_diffusion.evaluation.utility.evaluating import evaluate_utility, train_split
    from signal_diffusion.evaluation.utility.trials import Workers

    check_not_for_files(synthetic, num=num, steps=steps, set=sets)
    real = real_of(synthetic, real)
    made: Path | Windows = synthetic
    if is_model(synthetic):
        split = train_split(real, train)
        how: dict[str, Any] = {"num": num, "steps": steps, "sets": sets, "guidance_scale": guidance_scale}
        made = windows_of_model(synthetic, *split, to_train=True, seed=0, **how)
    with progress_bars() as progress:
        return evaluate_utility(
            made,
            real,
            train=train,
            task=task,
            classifiers=classifiers,
            seeds=seeds,
            quick=quick,
            workers=None if workers is None else Workers(*workers),
            on_plan=lambda line: print(line, flush=True),
            on_fit=lambda done, total: progress("training classifiers", done, total),
        )


def save_utility(found: Utility, folder: Path) -> list[Path]:
    """Write `utility.json`, `utility.csv` and `utility.png`."""
    from signal_diffusion.evaluation.utility.evaluating import save_figure

    return [*found.save(folder), save_figure(found, folder)]
