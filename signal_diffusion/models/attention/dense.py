"""Neighbourhood attention by SDPA with a mask, for small grids: its cost is quadratic in the number of tokens."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.models.attention.windows import grid_mask, in_windows, window_starts

__all__ = ["dense_attention"]


def dense_attention(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    """Attention of q, k, v (B, heads, H, W, D) with a mask of the keys in each window, the kernel within the grid."""
    height, width = q.shape[2:4]
    # A tensor made under FakeTensorMode or while compiling must not stay in the cache.
    real = type(q) is Tensor and not torch.compiler.is_compiling()
    mask = (_cached_mask if real else _mask)((height, width), kernel, q.device)
    q, k, v = (x.flatten(2, 3) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).unflatten(2, (height, width))


def _mask(size: tuple[int, int], kernel: tuple[int, int], device: torch.device) -> Tensor | None:
    """Which keys each query sees, (H·W, H·W); None for all."""
    if kernel == size:
        return None
    rows, columns = (in_windows(window_starts(n, k), k, n, device) for n, k in zip(size, kernel, strict=True))
    return grid_mask(rows, columns)


_cached_mask = functools.lru_cache(maxsize=32)(_mask)
