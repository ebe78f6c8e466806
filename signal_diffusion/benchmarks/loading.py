"""The speed of loading batches of a prepared dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from signal_diffusion.benchmarks.measuring import Row, Variant, compared
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import ExampleOrder, Examples, batches

__all__ = ["loading_rows"]


def loading_rows(root: Path, *, rounds: int, batch_size: int = 64) -> list[Row]:
    """Rows of reading a training split once, from memory and from a memory map."""
    card = DatasetCard.load(root)
    columns = {name: (name, entry["names"]) for name, entry in card.columns.items() if name in ("label", "electrode")}
    variants = []
    for name, limit in (("in memory", 2**20), ("memory-mapped", 0)):
        examples = Examples(
            open_split(root, "train"),
            shape=card.shape,
            tensor=card.representation["column"],
            attributes=columns,
            memory_limit_mb=limit,
        )
        order = ExampleOrder(num_examples=len(examples), batch_size=batch_size)
        count = order.steps_per_epoch * batch_size
        variants.append(Variant(name=name, call=partial(_load, examples, order), examples=count))
    case = f"loading {' × '.join(map(str, card.shape))}, batches of {batch_size}"
    return compared(case, variants, (), device=torch.device("cpu"), rounds=rounds)


def _load(examples: Examples, order: ExampleOrder) -> None:
    for _ in batches(examples, order, 0, order.steps_per_epoch, num_workers=0, pin_memory=False):
        pass
