"""Attention: one function for all backbones, whatever kernel computes it."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["attention", "kernels_found"]


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ/√D)·v over all tokens; q, k, v and the result are (B, heads, N, D)."""
    return F.scaled_dot_product_attention(q, k, v)


def kernels_found() -> dict[str, str]:
    """The backend of each kind of attention on this machine."""
    return {"attention": "torch SDPA"}
