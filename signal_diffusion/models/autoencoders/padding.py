"""Pad examples to a size that an autoencoder divides."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["pad_to_multiple", "padding_to_multiple"]


def padding_to_multiple(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """Rows and columns to add so that a size becomes a multiple of `factor`."""
    height, width = size
    return -height % factor, -width % factor


def pad_to_multiple(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Examples (B, C, H, W) with the last row and column repeated at the bottom and at the right."""
    down, right = padding
    return F.pad(x, (0, right, 0, down), mode="replicate")
