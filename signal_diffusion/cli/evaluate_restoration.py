"""`signal-diffusion evaluate restoration`: how well a trained model restores what is missing of real windows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.evaluate_utility import check_start
from signal_diffusion.cli.judged_dataset import Real, judged_dataset, overrides_of
from signal_diffusion.cli.lists import numbers_in
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.sample import Run, Sets, Steps, sampling_overrides

__all__ = ["restoration"]

SHARES, GAPS, WINDOWS = "0.1,0.3,0.5,0.7,0.9", "0.25,1,4", 56
QUICK_SHARES, QUICK_GAPS, QUICK_WINDOWS = "0.3,0.7", "0.25", 14
LONGEST = 3600.0  # s


def restoration(
    model: Run,
    output: Annotated[Path, typer.Option(help="Folder to write the report to; must not exist yet.")],
    real: Real = None,
    windows: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of windows, spread over the people.", show_default=f"{WINDOWS}, quick {QUICK_WINDOWS}"
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=1, max=1000, help="Draws of each window; at least 9 for the coverage.")
    ] = 16,
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE,...",
            help="Shares of the electrodes that are missing.",
            show_default=f"{SHARES}, quick {QUICK_SHARES}",
        ),
    ] = None,
    gaps: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS,...",
            help="Lengths of gaps in all electrodes; gaps longer than three quarters of a window are left out.",
            show_default=f"{GAPS}, quick {QUICK_GAPS}",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer shares, gaps and windows.")] = False,
    steps: Steps = None,
    sets: Sets = None,
) -> None:
    """Take electrodes, gaps and the last quarter from real windows, and compare what is restored with the truth.

    Next to the model stand MNE's spherical splines and a ridge regression for electrodes, and linear interpolation and
    autoregression for gaps. As in `restore`, guidance is off unless --set turns it on. Takes windows × scenarios ×
    draws samples. For a model that knows electrodes by position, --real may be a dataset with more electrodes: these
    are restored, too.
    """
    check_start(output)
    shares = _numbers("--missing", missing or (QUICK_SHARES if quick else SHARES), most=1.0)
    lengths = _numbers("--gaps", gaps or (QUICK_GAPS if quick else GAPS), most=LONGEST)
    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at
    from signal_diffusion.sampling.judged_restoration import assess_restoration
    from signal_diffusion.sampling.options import named_in_errors
    from signal_diffusion.sampling.restoring.options import UNGUIDED
    from signal_diffusion.sampling.trained import load_trained

    of_real, split = overrides_of(real)
    overrides = [UNGUIDED, *sampling_overrides(sets, steps), *of_real]
    with named_in_errors({} if steps is None else {"steps": "--steps"}):
        checkpoint = checkpoint_at(model, overrides)
        experiment, card = experiment_at(checkpoint, overrides), DatasetCard.load(checkpoint)
    dataset, split = judged_dataset(experiment, card, split, may_have_more_electrodes=True)
    trained = load_trained(checkpoint, overrides)
    with progress_bars() as progress:
        report = assess_restoration(
            trained,
            dataset,
            split=split,
            windows=windows or (QUICK_WINDOWS if quick else WINDOWS),
            draws=draws,
            shares=shares,
            gaps=lengths,
            on_progress=progress,
        )
    files = report.save(output)
    print(report.to_text())
    print(f"{output}: {', '.join(file.name for file in files)}")


def _numbers(option: str, text: str, *, most: float) -> list[float]:
    example = SHARES if most == 1 else GAPS
    return numbers_in(option, text, f"numbers between 0 and {most:g}, such as {example}", lambda x: 0 < x < most)
