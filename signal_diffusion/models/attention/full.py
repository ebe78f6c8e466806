"""Attention over all tokens."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["attention", "attention_kernel"]


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
    """softmax(scale·q·kᵀ)·v over all tokens; q, k, v and the result are (B, heads, N, D); scale is 1/√D by default."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def attention_kernel() -> str:
    """The backend of `attention`."""
    return "torch SDPA"
