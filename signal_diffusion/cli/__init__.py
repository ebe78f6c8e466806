"""The `signal-diffusion` command, one file per subcommand.

Slow libraries are imported inside the functions that need them, so that `--help` is fast."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from signal_diffusion.cli import benchmark, config, data, evaluate
from signal_diffusion.cli.ema import ema
from signal_diffusion.cli.encode import encode
from signal_diffusion.cli.export import export
from signal_diffusion.cli.export_bids import export_bids
from signal_diffusion.cli.prepare import prepare
from signal_diffusion.cli.restore import RestoreCommand, restore
from signal_diffusion.cli.sample import SampleCommand, sample
from signal_diffusion.errors import exit_on_signals, report_user_errors

__all__ = ["app", "main"]

PACKAGES = ("signal-diffusion", "torch", "accelerate", "diffusers", "mne")
"""Packages that `--version` lists."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(prepare)
app.command()(encode)
app.command(cls=SampleCommand)(sample)
app.command(cls=RestoreCommand)(restore)
app.command()(ema)
app.command()(export)
app.command()(export_bids)
app.add_typer(config.app, name="config")
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(benchmark.app, name="benchmark")


def _print_versions(is_asked: bool) -> None:
    if is_asked:
        for name in PACKAGES:
            print(f"{name} {version(name)}")  # from package metadata, without importing
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_versions, is_eager=True, help="Print the installed versions and exit."
        ),
    ] = False,
) -> None:
    """Diffusion models of EEG: datasets, experiment files, samples. Training is a separate command:

    python -m signal_diffusion.training.diffusion EXPERIMENT.toml
    """


def main() -> None:
    """Run the command; a `UserError` is printed without a traceback, with exit code 2."""
    exit_on_signals()
    with report_user_errors():
        app()
