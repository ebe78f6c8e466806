"""`signal-diffusion config`: what an experiment file says, and what it would take."""

from __future__ import annotations

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
    from signal_diffusion.experiment import load

    print(to_toml(load(file, overrides or ())), end="")


@app.command()
def check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Experiment files.")],
    overrides: Overrides = None,
) -> None:
    """Hold experiment files against their datasets, and tell what training them would take."""
    from signal_diffusion.config.loading import written_keys
    from signal_diffusion.experiment import load, naming
    from signal_diffusion.inspection import inspect

    complaints: list[str] = []
    for file in files:
        try:
            with naming(file):
                found = inspect(load(file, overrides or ()), written_keys(file, overrides or ()))
        except UserError as error:
            complaints += error.lines
            continue
        gib = 2**30
        memory = (found.state_bytes + found.activation_bytes) / gib
        print(
            f"{file}: ok\n"
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
    if complaints:
        raise UserError(*complaints)
