"""Count a network's floating-point operations, two per multiply-add, whatever kernels it uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from signal_diffusion.models import attention, selective_scan  # noqa: F401  (registers the scan's operator)
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser

__all__ = ["forward_flops"]


def forward_flops(model: Denoiser, x: Tensor, cond: Conditioning) -> int:
    """FLOPs of a forward pass for x (B, C, H, W); a training step takes about three times as many.

    Only matrix products, convolutions, attention and selective scans are counted: elementwise operations are bound by
    memory. The model and x must be on the CPU or fake tensors, because the counter cannot look into some CUDA kernels.
    With fake tensors, nothing is computed.
    """
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    with counter:  # gradients stay on: the counter's hooks fail on modules that receive a parameter without gradient
        model(x, torch.zeros(len(x)), cond)
    return counter.get_total_flops()


def _scan(u: Sequence[int], delta: Sequence[int], a: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Three multiply-adds per position, channel and state: A·h, b·x and c·h."""
    return 6 * math.prod(u) * a[1]


_FORMULAS: dict[Any, Callable[..., int]] = {
    **attention.FLOP_FORMULAS,
    torch.ops.signal_diffusion.selective_scan: _scan,
}
