"""The `signal-diffusion` command, a file per subcommand. Heavy libraries are imported by what needs them."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from signal_diffusion.cli import benchmark, config, data
from signal_diffusion.cli.export import export
from signal_diffusion.cli.prepare import prepare
from signal_diffusion.cli.sample import SampleCommand, sample
from signal_diffusion.errors import reported_to_user

__all__ = ["app", "main"]

PACKAGES = ("signal-diffusion", "torch", "accelerate", "diffusers", "mne")
"""Whose versions `--version` prints."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(prepare)
app.command(cls=SampleCommand)(sample)
app.command()(export)
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(benchmark.app, name="benchmark")


def _print_versions(is_asked: bool) -> None:
    if is_asked:
        for name in PACKAGES:
            print(f"{name} {version(name)}")  # of the installed files; nothing is imported
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_versions, is_eager=True, help="Print the versions in use, and leave."
        ),
    ] = False,
) -> None:
    """Diffusion models of EEG: datasets, experiment files, samples. Training is a module of its own:

    python -m signal_diffusion.training.diffusion EXPERIMENT.toml
    """


def main() -> None:
    """Run the command; what the user can put right becomes a line and exit code 2."""
    # What a batch system sends before it kills: everyone cleans up after himself, as on Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    with reported_to_user():
        app()
