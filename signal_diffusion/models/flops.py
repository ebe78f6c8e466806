"""Floating-point operations of a network, two for each multiply-add, whatever kernels compute it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from signal_diffusion.models import attention, selective_scan  # noqa: F401  (the scan's operator has to be known)
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser

__all__ = ["forward_flops"]


def forward_flops(model: Denoiser, x: Tensor, cond: Conditioning) -> int:
    """FLOPs of a forward pass for x (B, C, H, W); a training step takes about three times as many.

    Matrix products, convolutions, attention and selective scans count, as what torch does element by element is
    bound by memory. The model and x may be fake, and then nothing is computed; they are on the CPU or fake, since some
    kernels of CUDA cannot be seen into.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with counter:  # with gradients: its hooks trip over modules that are given a parameter without them
        model(x, torch.zeros(len(x)), cond)
    return counter.get_total_flops()


def _scan(u: Sequence[int], delta: Sequence[int], a: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Three multiply-adds per position, channel and state: A·h, b·x and c·h."""
    return 6 * math.prod(u) * a[1]


_FORMULAS: dict[Any, Callable[..., int]] = {
    **attention.FLOP_FORMULAS,
    torch.ops.signal_diffusion.selective_scan: _scan,
}
