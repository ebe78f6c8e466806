"""`signal-diffusion benchmark`: measure speed and memory on this machine."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["app"]

app = typer.Typer(help="Measure speed and memory on this machine.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Measure speed and memory on this machine."""


@app.command()
def data(
    minutes: Annotated[float, typer.Option(min=1, help="Length of each of the four recordings, minutes.")] = 30,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes that read recordings.")] = 2,
) -> None:
    """Prepare generated EDF files (20 channels, 500 Hz), then load the dataset."""
    from rich.console import Console

    from signal_diffusion.data import benchmark

    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        benchmark.write_recordings(root / "four", 4, minutes)
        for name in ("db-only", "db-iq"):
            for count in sorted({1, workers}):
                speed = benchmark.preparation_speed(root / "four", root / f"{name}-{count}", name, count)
                console.print(f"preparing 4 × {minutes:g} min as {name}, {count} worker(s): {speed:.0f} × real time")
        console.print(_table(benchmark.preparation_steps(root / "four", root / "profiled")))
        for name, in_memory in (("in memory", True), ("memory-mapped", False)):
            speed = benchmark.loading_speed(root / "db-iq-1", in_memory=in_memory)
            console.print(f"loading 64×64×3, batches of 64, {name}: {speed:,.0f} examples/s")
        if sys.platform != "linux":
            console.print("peak memory: not measured; only Linux reports it")
            return
        for name, count, length in (("one", 1, 1), ("eight", 8, 1), ("long", 1, 8)):
            benchmark.write_recordings(root / name, count, length * minutes / 3)
            peak = benchmark.peak_memory(root / name, root / f"{name}-dataset")
            console.print(f"peak memory, {count} × {length * minutes / 3:g} min: {peak:.0f} MiB")


def _table(steps: dict[str, float]) -> Table:
    from rich.table import Table

    table = Table("db-only, one process, profiled", "s", "share")
    total = sum(steps.values())
    for step, seconds in steps.items():
        table.add_row(step, f"{seconds:.2f}", f"{seconds / total:.0%}")
    return table
