"""`signal-diffusion benchmark`: what this machine makes of the package."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Measure speed and memory on this machine."""


@app.command()
def data(
    minutes: Annotated[float, typer.Option(min=1, help="Of EEG in each of four recordings.")] = 10,
    workers: Annotated[int, typer.Option(min=1, help="Processes that read recordings.")] = 2,
) -> None:
    """Prepare generated 500 Hz EDF of 20 channels, and load the dataset."""
    from rich.console import Console
    from rich.table import Table

    from signal_diffusion.data.benchmark import loading, peak_memory, preparing, write_recordings

    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_recordings(root / "four", 4, minutes)
        found = preparing(root / "four", root / "dataset", workers)
        table = Table("preparing, one process", "s", "share", title=None)
        total = sum(found.steps.values())
        for step, seconds in found.steps.items():
            table.add_row(step, f"{seconds:.2f}", f"{seconds / total:.0%}")
        console.print(table)
        for name, seconds in ((f"{workers} workers", found.seconds), ("one process, under a profiler", total)):
            console.print(
                f"{found.eeg_seconds:.0f} s of EEG in {seconds:.1f} s, {name}: "
                f"{found.eeg_seconds / seconds:.0f} × real time"
            )
        for name, in_memory in (("in memory", True), ("memory-mapped", False)):
            speed = loading(root / "dataset", in_memory=in_memory)
            console.print(f"loading 64×64×3, batches of 64, {name}: {speed:,.0f} examples/s")
        if sys.platform != "linux":
            console.print("peak memory: not measured, only Linux tells")
            return
        write_recordings(root / "one", 1, minutes)
        write_recordings(root / "eight", 8, minutes)
        write_recordings(root / "long", 1, 8 * minutes)
        for name in ("one", "eight", "long"):
            what = {"one": "one recording", "eight": "eight of them", "long": "one, eight times as long"}[name]
            console.print(f"peak memory, {what}: {peak_memory(root / name, root / f'dataset-{name}'):.0f} MiB")
