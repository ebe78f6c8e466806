"""The windows of neighbourhood attention: which keys each query sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["grid_mask", "in_windows", "window_starts"]


def window_starts(size: int, window: int) -> tuple[int, ...]:
    """The first key of each query's window, on an axis of `size` tokens."""
    return tuple(min(max(query - window // 2, 0), size - window) for query in range(size))


def in_windows(starts: Sequence[int], window: int, num_keys: int, device: torch.device) -> Tensor:
    """Which keys are in each query's window, (queries, keys)."""
    offset = torch.arange(num_keys, device=device) - torch.tensor(starts, device=device)[:, None]
    return (offset >= 0) & (offset < window)


def grid_mask(rows: Tensor, columns: Tensor) -> Tensor:
    """The mask on a grid, (queries, keys), from the masks on its two axes."""
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2, 3).flatten(0, 1)
