"""Attributes of an example with their nulls, and the values of a batch.

Every attribute has a null of its own: a learnt one, or for captions the empty caption. A missing value and a dropped
one are the same thing, from the loader to the embedding, so the unconditional model of guidance is the one that was
trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from signal_diffusion.errors import UserError

__all__ = ["Attribute", "Caption", "Categorical", "Conditioning", "Numeric"]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Conditions of a batch. `Conditioning()` is that of an unconditional model."""

    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    """Values (B,): int64 index of a category or of a caption (−1 = null), float32 of a number (NaN = null)."""

    def __len__(self) -> int:
        """Examples in the batch; 0 where there are no attributes."""
        return next((len(values) for values in self.attributes.values()), 0)

    def __getitem__(self, rows: slice | Tensor) -> Conditioning:
        """The conditions of some examples: a slice, indices or a mask."""
        return self._map(lambda values: values[rows])

    def drop(self, mask: Tensor) -> Conditioning:
        """The null in every attribute of the examples in `mask`, (B,) bool."""
        return self._map(lambda values: _dropped(values, mask))

    def drop_each(self, masks: Mapping[str, Tensor]) -> Conditioning:
        """The null in the examples of an attribute's own mask, (B,) bool; attributes without one stay."""
        return Conditioning(
            {name: _dropped(v, masks[name]) if name in masks else v for name, v in self.attributes.items()}
        )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Conditioning:
        """The same conditions on another device."""
        return self._map(lambda values: values.to(device, non_blocking=non_blocking))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return Conditioning({name: change(values) for name, values in self.attributes.items()})


def _dropped(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(mask, math.nan if values.is_floating_point() else -1)


@dataclass(frozen=True)
class Categorical:
    """An attribute with one of several names as its value, given to a model as its index."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Numeric:
    """An attribute that is a number in natural units, with its mean and deviation over the training data."""

    name: str
    mean: float
    std: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and 0 < self.std < math.inf):
            raise UserError(
                f"attribute {self.name!r} has mean {self.mean} and standard deviation {self.std}: "
                "expected values that differ; leave the attribute out"
            )


@dataclass(frozen=True, eq=False)
class Caption:
    """A description in words, given to a model as its index in `texts`, whose embeddings a frozen encoder made."""

    name: str
    texts: tuple[str, ...]
    """Distinct captions; the first is the empty one, which is the null."""
    tokens: Tensor
    """(len(texts), L, D): an embedding per token, for networks that attend to them."""
    pooled: Tensor
    """(len(texts), P): an embedding of the whole."""
    encoder: str = ""
    """A hash of what made them."""

    def __post_init__(self) -> None:
        assert self.texts[:1] == ("",) and len(self.texts) == len(self.tokens) == len(self.pooled)


Attribute = Categorical | Numeric | Caption
