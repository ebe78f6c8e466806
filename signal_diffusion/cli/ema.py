"""`signal-diffusion ema`: averages of the weights of any length, made after training."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from signal_diffusion.cli.lists import numbers_in
from signal_diffusion.cli.progress import progress_bars
from signal_diffusion.cli.sample import Sets
from signal_diffusion.errors import UserError, print_warning

if TYPE_CHECKING:
    from signal_diffusion.sampling.post_hoc_ema import PostHocAverage

__all__ = ["ema"]

Run = Annotated[
    Path, typer.Argument(help="Folder of a run (uses its generation.checkpoint, by default the newest), or checkpoint.")
]
LARGE = 0.05
"""Error of a profile that is worth a warning."""


def ema(
    run: Run,
    sigma_rel: Annotated[
        str,
        typer.Option(
            metavar="NUMBER,...",
            help="Widths of the averages, as shares of the length of training: above 0 and up to 0.289.",
        ),
    ],
    choose: Annotated[
        Literal["loss", "spectral"] | None,
        typer.Option(
            help="Write only the best one: of the smallest validation loss, or of the smallest spectral distance of "
            "generated samples from validation examples."
        ),
    ] = None,
    sets: Sets = None,
) -> None:
    """Make averages of the weights (post-hoc EMA) of a run that was trained with training.ema.post_hoc = true.

    Each is a folder ema-NUMBER-step-STEP in the run, which all commands take as a checkpoint.
    """
    words = numbers_in("--sigma-rel", sigma_rel, "numbers, such as 0.05,0.1,0.15")
    widths = list(dict.fromkeys(float(f"{each:g}") for each in words))  # the digits that the name of a folder has
    from signal_diffusion.checkpoints import verify
    from signal_diffusion.sampling.average_choice import measured
    from signal_diffusion.sampling.choosing import checkpoint_at
    from signal_diffusion.sampling.post_hoc_ema import averages_at, check_sigma_rel, snapshots_of, write_average

    for each in widths:
        check_sigma_rel(each)
    overrides = sets or []
    checkpoint = checkpoint_at(run, overrides)
    verify(checkpoint)
    snapshots = snapshots_of(checkpoint)
    with progress_bars() as progress:
        averages = averages_at(
            checkpoint, widths, snapshots, lambda done, total: progress("reading EMA snapshots", done, total)
        )
        of_training, values = None, None
        if choose:
            weights = [average.weights for average in averages]
            of_training, values = measured(
                checkpoint, weights, choose, overrides, lambda done, total: progress("measuring", done, total)
            )
    steps = f"steps {snapshots[0].step:,} to {snapshots[-1].step:,}"
    print(f"{checkpoint}: {len(snapshots)} EMA snapshots, {steps}")
    best = _best(values) if values else None
    _print_table(averages, values, of_training, choose, best)
    for average in averages:
        _warn(average)
    if values and of_training is not None and best is not None and of_training < values[best]:
        print(f"the EMA of training is better than these; sample from it as before: {checkpoint}")
    for number, average in enumerate(averages):
        if best in (None, number):
            folder = write_average(checkpoint, average, values[number] if values and choose == "loss" else None)
            print(f"{folder}: written; sample from it with `{shlex.join(['signal-diffusion', 'sample', str(folder)])}`")


def _best(values: Sequence[float]) -> int:
    if not any(map(math.isfinite, values)):
        raise UserError("--choose: no average gives a finite value; leave --choose out to write them all")
    return min(range(len(values)), key=lambda number: values[number] if math.isfinite(values[number]) else math.inf)


def _print_table(
    averages: Sequence[PostHocAverage],
    values: Sequence[float] | None,
    of_training: float | None,
    choose: str | None,
    best: int | None,
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from signal_diffusion.sampling.average_choice import MEASURES

    table = Table("average", box=box.SIMPLE_HEAD)
    titles = ["error of the profile", *([MEASURES[choose]] if choose else [])]
    for title in titles:
        table.add_column(title, justify="right")
    for number, average in enumerate(averages):
        cells = [f"{average.made.profile_error:.1%}", *([f"{values[number]:.5f}"] if values else [])]
        table.add_row(f"σ_rel {average.made.sigma_rel:g}", *cells, "← chosen" if number == best else "")
    if of_training is not None:
        table.add_row("EMA of training", "", f"{of_training:.5f}", "")
    Console(highlight=False, markup=False, emoji=False).print(table)


def _warn(average: PostHocAverage) -> None:
    """Warn of an average that its snapshots cannot give."""
    if (error := average.made.profile_error) > LARGE:
        print_warning(
            f"--sigma-rel {average.made.sigma_rel:g}: the snapshots give this average only approximately: its profile "
            f"over the steps has an error of {error:.0%}; more checkpoints while training would make it smaller"
        )
