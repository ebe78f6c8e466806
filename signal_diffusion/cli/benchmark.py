"""`signal-diffusion benchmark`: measure speed and memory on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from signal_diffusion.cli.config import Overrides
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.benchmarks.report import Report

__all__ = ["app"]

app = typer.Typer(
    help="Measure speed and memory on this machine, next to its ceilings and to other software.", no_args_is_help=True
)
Rounds = Annotated[int, typer.Option(min=1, help="Calls of each variant, in turn, after one that is not counted.")]
Against = Annotated[
    Literal["diffusers"] | None, typer.Option(help="Also measure its network of the same size (dit, unet).")
]
Precision = Annotated[
    Literal["bf16", "fp32"] | None,
    typer.Option(help="Type of the inputs.", show_default="bf16, on a CPU without it fp32"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


@app.command()
def train(
    config: Annotated[
        Path | None, typer.Argument(help="Experiment file; by default, each backbone at its default size.")
    ] = None,
    overrides: Overrides = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Examples per step.", show_default="the experiment's; on a CPU at most 2"),
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compiled", help="Also measure compiled networks; takes minutes.")
    ] = False,
    against: Against = None,
    script: Annotated[
        Path | None,
        typer.Option(
            help="train_unconditional.py of diffusers' examples: with --against diffusers, compare the whole commands, "
            "of a unet on pictures, instead of steps."
        ),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Calls of each variant, in turn, after one that is not counted.",
            show_default="5; 1 with --script",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure training steps as a run takes them, on noise: nothing is read or written.

    What is not on this machine, such as the dataset, is assumed.
    """
    if script is None:
        from signal_diffusion.benchmarks.training import training_report

        _print(
            lambda: training_report(
                config,
                overrides or (),
                batch_size=batch_size,
                compiled=compiled,
                against_diffusers=against is not None,
                rounds=rounds or 5,
            ),
            as_json,
        )
        return
    if against is None or compiled or batch_size:
        raise UserError(
            "benchmark train: --script goes with --against diffusers, and without --compiled and --batch-size"
        )
    from signal_diffusion.benchmarks.whole_runs import whole_runs_report

    _print(lambda: whole_runs_report(config, overrides or (), script, rounds=rounds or 1), as_json)


@app.command()
def sample(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG|MODEL]",
            help="Experiment file, whose network has fresh weights; or a run, a checkpoint or an exported model; by "
            "default, each backbone at its default size.",
        ),
    ] = None,
    overrides: Overrides = None,
    num: Annotated[int, typer.Option(min=1, help="Number of samples.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sampler, of which each takes as long.")] = 2,
    against: Against = None,
    rounds: Rounds = 3,
    as_json: Json = False,
) -> None:
    """Measure the generation of samples as `sample` does it."""
    from signal_diffusion.benchmarks.sampling import sampling_report

    settings = [f"generation.sampling.steps={steps}", *(overrides or ())]
    against_diffusers = against is not None
    _print(
        lambda: sampling_report(path, settings, num=num, against_diffusers=against_diffusers, rounds=rounds), as_json
    )


@app.command()
def data(
    minutes: Annotated[float, typer.Option(min=1, help="Length of each of the four recordings, minutes.")] = 30,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes that read recordings.")] = 2,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Prepare generated EDF files (20 channels, 500 Hz), then load the dataset."""
    from signal_diffusion.benchmarks.preparation import data_report

    _print(lambda: data_report(minutes=minutes, workers=workers, rounds=rounds), as_json)


@app.command()
def attention(
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per call.")] = 4,
    precision: Precision = None,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Measure neighbourhood attention, forward and backward, by each backend of this machine."""
    from signal_diffusion.benchmarks.kernels import attention_report

    _print(lambda: attention_report(batch_size, precision, rounds=rounds), as_json)


@app.command()
def scan(
    batch_size: Annotated[int, typer.Option(min=1, help="Examples per call.")] = 4,
    precision: Precision = None,
    rounds: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Measure the selective scan, forward and backward, by each backend of this machine and in plain PyTorch."""
    from signal_diffusion.benchmarks.kernels import scan_report

    _print(lambda: scan_report(batch_size, precision, rounds=rounds), as_json)


def _print(measure: Callable[[], Report], as_json: bool) -> None:
    """Measure, and print the report; what is printed while measuring goes to standard error."""
    with redirect_stdout(sys.stderr):
        report = measure()
    if as_json:
        print(report.to_json())
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(report.heading(), soft_wrap=True, markup=False, highlight=False)
    for table in report.tables():
        console.print(table)
    for note in report.notes:
        console.print(f"not measured: {note}", soft_wrap=True, markup=False, highlight=False)
