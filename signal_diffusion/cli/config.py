"""`signal-diffusion config`: what an experiment file says, and what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.errors import UserError

__all__ = ["app"]

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable.")
]

app = typer.Typer(help="Look at experiment files, without training.", no_args_is_help=True)


@app.command()
def show(file: Annotated[Path, typer.Argument(help="Experiment file.")], overrides: Overrides = None) -> None:
    """Print the whole experiment, with its defaults, as a file that reads back the same."""
    from signal_diffusion.config.loading import to_toml
    from signal_diffusion.experiment import load_any

    print(to_toml(load_any(file, overrides or ())), end="")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiment files.")],
    overrides: Overrides = None,
) -> None:
    """Hold experiment files against their datasets, and tell what training them would take."""
    from signal_diffusion.experiment import naming

    complaints: list[str] = []
    for file in files:
        try:
            with naming(file):
                told = _told(file, overrides or ())
        except UserError as error:
            complaints += error.lines
            continue
        print(f"{file}: ok\n{told}")
    if complaints:
        raise UserError(*complaints)


def _told(file: Path, overrides: Sequence[str]) -> str:
    """What is known of an experiment of either kind, a line each."""
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.config.loading import written_keys
    from signal_diffusion.experiment import load_any
    from signal_diffusion.inspection import inspect
    from signal_diffusion.training.autoencoder import outline

    experiment = load_any(file, overrides)
    if isinstance(experiment, AutoencoderExperiment):
        return outline(experiment)
    found, gib = inspect(experiment, written_keys(file, overrides)), 2**30
    memory = (found.state_bytes + found.activation_bytes) / gib
    return (
        f"  parameters       {found.parameters:,}\n"
        f"  tokens           {found.tokens:,} per example\n"
        f"  compute          {found.flops / 1e9:,.2f} GFLOP per example and forward pass, about "
        f"{3 * found.flops / 1e9:,.2f} to train on it\n"
        f"  steps            {found.steps_per_epoch:,} per epoch of {found.train_examples:,} examples, "
        f"{found.num_steps:,} in all\n"
        f"  memory           about {memory:.2f} GiB per process: {found.state_bytes / gib:.2f} for weights, "
        f"gradients, optimizer and average, {found.activation_bytes / gib:.2f} for activations\n"
        f"  kernels          {', '.join(f'{name}: {kernel}' for name, kernel in found.kernels.items())}"
    )
