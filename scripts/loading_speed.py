"""Examples per second of the training loader, in memory and memory-mapped: the median of several epochs.

uv run python scripts/loading_speed.py data/eegmat-db-only
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import ExampleOrder, Examples, batches
from signal_diffusion.errors import reported_to_user


def main(
    root: Annotated[Path, typer.Argument(help="A dataset's folder.")],
    batch_size: Annotated[int, typer.Option()] = 64,
    epochs: Annotated[int, typer.Option()] = 5,
) -> None:
    """Print both medians."""
    with reported_to_user():
        card = DatasetCard.load(root)
        attributes = {"label": ("label", card.columns["label"]["names"])}
        for name, memory_limit_mb in (("in memory", 2**20), ("memory-mapped", 0)):
            split = open_split(root, "train")
            examples = Examples(split, shape=card.shape, attributes=attributes, memory_limit_mb=memory_limit_mb)
            order = ExampleOrder(num_examples=len(examples), batch_size=batch_size)
            print(f"{name}: {statistics.median(speed(examples, order) for _ in range(epochs)):,.0f} examples/s")


def speed(examples: Examples, order: ExampleOrder) -> float:
    """Examples per second of one epoch."""
    start = time.perf_counter()
    stream = batches(examples, order, 0, order.steps_per_epoch, num_workers=0, pin_memory=False)
    total = sum(len(x) for x, _ in stream)
    return total / (time.perf_counter() - start)


if __name__ == "__main__":
    typer.run(main)
