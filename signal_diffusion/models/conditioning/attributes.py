"""Attributes that a model is conditioned on, each with its own null, and their values for a batch.

The null is a learnt embedding, or for captions the empty caption. A missing value and a dropped one are the same from
the loader to the embedding, so guidance uses exactly the unconditional model that was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.known import Known

__all__ = ["Attribute", "Caption", "Categorical", "Conditioning", "Numeric"]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Conditions of a batch; `Conditioning()` for an unconditional model."""

    attributes: Mapping[str, Tensor] = field(default_factory=dict)
    """Values (B,): the int64 index of a category or a caption (−1 = null), or a float32 number (NaN = null)."""
    known: Known | None = None
    """What is given of the examples, for a network that takes it; it has no null and is never dropped."""
    places: Tensor | None = None
    """Unit-sphere coordinates of the rows of examples (B, H, 3), for a network that knows electrodes by place; None =
    those of the electrodes that it was trained on. Never dropped either."""

    def __len__(self) -> int:
        """Number of examples in the batch; 0 if there are no conditions."""
        others = (each for each in (self.known, self.places) if each is not None)
        return next((len(each) for each in (*self.attributes.values(), *others)), 0)

    def __getitem__(self, rows: slice | Tensor) -> Conditioning:
        """The conditions of some examples: a slice, indices or a mask."""
        known = self.known[rows] if self.known else None
        places = None if self.places is None else self.places[rows]
        return replace(self._map(lambda values: values[rows]), known=known, places=places)

    def with_known(self, known: Known | None) -> Conditioning:
        """The same attributes with what is given of the examples."""
        return replace(self, known=known)

    def with_places(self, places: Tensor | None) -> Conditioning:
        """The same conditions with the places of other electrodes."""
        return replace(self, places=places)

    def drop(self, mask: Tensor) -> Conditioning:
        """A copy with every attribute null for the examples in `mask`, (B,) bool."""
        return self._map(lambda values: _dropped(values, mask))

    def drop_each(self, masks: Mapping[str, Tensor]) -> Conditioning:
        """A copy with each attribute null for the examples in its own mask, (B,) bool; without a mask it stays."""
        attributes = {name: _dropped(v, masks[name]) if name in masks else v for name, v in self.attributes.items()}
        return replace(self, attributes=attributes)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Conditioning:
        """The same conditions on another device."""
        known = self.known.to(device, non_blocking=non_blocking) if self.known else None
        places = None if self.places is None else self.places.to(device, non_blocking=non_blocking)
        moved = self._map(lambda values: values.to(device, non_blocking=non_blocking))
        return replace(moved, known=known, places=places)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return replace(self, attributes={name: change(values) for name, values in self.attributes.items()})


def _dropped(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(mask, math.nan if values.is_floating_point() else -1)


@dataclass(frozen=True)
class Categorical:
    """An attribute whose value is one of several names; a model receives its index."""

    name: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Numeric:
    """A number in natural units, with its mean and standard deviation over the training data."""

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
    """A text; a model receives its index in `texts`, which a frozen text encoder has embedded."""

    name: str
    texts: tuple[str, ...]
    """Distinct captions; the first is the empty one, which is the null."""
    tokens: Tensor
    """(len(texts), L, D): one embedding per token, for networks that attend to them."""
    pooled: Tensor
    """(len(texts), P): one embedding per caption."""
    encoder: str = ""
    """Fingerprint of the text encoder."""

    def __post_init__(self) -> None:
        assert self.texts[:1] == ("",) and len(self.texts) == len(self.tokens) == len(self.pooled)


Attribute = Categorical | Numeric | Caption
