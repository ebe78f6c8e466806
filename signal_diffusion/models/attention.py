"""Attention: one function of each kind for all backbones, whatever kernel computes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["attention", "attention_kernel", "neighbourhood_attention", "neighbourhood_kernel"]


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
    """softmax(scale·q·kᵀ)·v over all tokens; q, k, v and the result are (B, heads, N, D); scale is 1/√D if absent."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def attention_kernel() -> str:
    """What computes `attention`."""
    return "torch SDPA"


def neighbourhood_attention(
    q: Tensor, k: Tensor, v: Tensor, kernel_size: tuple[int, int], *, scale: float | None = None
) -> Tensor:
    """Attention of each token to the `kernel_size` nearest rows and columns of a grid.

    q, k, v and the result are (B, heads, H, W, D). Where a window would reach over a border it is moved inward, so
    that every token has as many keys; a window that is larger than an axis is all of that axis.
    """
    height, width = q.shape[2:4]
    rows, columns = _windows(height, kernel_size[0], q.device), _windows(width, kernel_size[1], q.device)
    mask = (rows[:, None, :, None] & columns[None, :, None, :]).reshape(height * width, -1)
    q, k, v = (x.flatten(2, 3) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).unflatten(2, (height, width))


def neighbourhood_kernel(device: torch.device) -> str:
    """What computes `neighbourhood_attention` on a device."""
    return "torch SDPA, masked"


def _windows(size: int, kernel: int, device: torch.device) -> Tensor:
    kernel = min(kernel, size)
    start = (torch.arange(size, device=device) - kernel // 2).clamp(0, size - kernel)
    offset = torch.arange(size, device=device) - start[:, None]
    return (offset >= 0) & (offset < kernel)
