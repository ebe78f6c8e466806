"""What is given of examples while the rest is generated: some electrodes, or the time before and after a gap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Known"]


@dataclass(frozen=True, eq=False)
class Known:
    """Given values of a batch, both shaped like the examples, (B, C, H, W)."""

    values: Tensor
    """The values; where nothing is given, any finite number."""
    mask: Tensor
    """Bool: where values are given."""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> Known:
        """What is known of some examples: a slice, indices or a mask."""
        return self._map(lambda each: each[rows])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Known:
        """The same on another device."""
        return self._map(lambda each: each.to(device, non_blocking=non_blocking))

    def inserted(self, x: Tensor) -> Tensor:
        """x with the given values in their places, to the bit."""
        return torch.where(self.mask, self.values.to(x.dtype), x)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Known:
        return Known(change(self.values), change(self.mask))
