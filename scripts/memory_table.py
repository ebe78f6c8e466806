"""Print the memory that training takes by the estimate of `config check`; `benchmark train` measures it.

    uv run python scripts/memory_table.py config/diffusion/*.toml

A row per network, batch and precision, in GiB: the state, which is weights, gradients, optimizer and EMA, and the peak
without and with gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.experiment.assumed import Assumptions
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.memory import GIB
from signal_diffusion.experiment.resolving import resolve

__all__ = ["main"]

PRECISIONS = {"no": "fp32", "bf16": "bf16"}


def main(
    files: Annotated[list[Path], typer.Argument(help="Experiment files.")],
    batch: Annotated[int | None, typer.Option(help="Examples per process; the file's by default.")] = None,
) -> None:
    """Print the table in Markdown."""
    columns = ["network", "batch", "precision", "state", "peak", "peak with gradient checkpointing"]
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for file in files:
        for precision in PRECISIONS:
            print(f"| {' | '.join(_row(file, precision, batch))} |", flush=True)


def _row(file: Path, precision: str, batch: int | None) -> Iterator[str]:
    overrides = [f"training.mixed_precision={precision}", *([f"data.loading.batch_size={batch}"] if batch else [])]
    kinds = [
        resolve(
            load_experiment(file, [*overrides, f"training.gradient_checkpointing={checkpointing}"]),
            assumptions=Assumptions(),
        )
        for checkpointing in ("false", "true")
    ]
    estimates = [inspect(kind).memory for kind in kinds]
    yield from (f"`{file.stem}`", f"{kinds[0].experiment.data.loading.batch_size}", PRECISIONS[precision])
    yield _gib(estimates[0].state)
    yield from (_gib(each.state + each.activations) for each in estimates)


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


if __name__ == "__main__":
    typer.run(main)
