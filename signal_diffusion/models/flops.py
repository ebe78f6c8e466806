"""Count a network's floating-point operations, two per multiply-add, whatever kernels it uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

from signal_diffusion.models.attention.tiles import FLOP_FORMULAS
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.selective_scan import operator  # noqa: F401  (registers the scan's operators)

__all__ = ["counted_flops", "forward_flops"]


def forward_flops(model: Denoiser, x: Tensor, cond: Conditioning) -> int:
    """FLOPs of a forward pass of a denoiser for x (B, C, H, W), by `counted_flops`."""
    return counted_flops(model, x, torch.zeros(len(x)), cond)


def counted_flops(network: Callable[..., object], *inputs: object) -> int:
    """FLOPs of a forward pass of a network; a training step takes about three times as many.

    Only matrix products, convolutions, attention and selective scans are counted: elementwise operations are bound by
    memory. The network and its inputs must be on the CPU or fake tensors, because the formulas do not cover all CUDA
    kernels. With fake tensors, nothing is computed.
    """
    with torch.no_grad(), _Counter() as counter:
        network(*inputs)
    return counter.total


class _Counter(TorchDispatchMode):
    """Adds up PyTorch's formulas, as `FlopCounterMode` does, whose use imports torch._dynamo."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Not to be wrapped in `torch._dynamo.disable`, the import of which takes longer than `import torch`."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


@register_flop_formula(torch.ops.signal_diffusion.selective_scan)
def _scan(u: Sequence[int], delta: Sequence[int], a: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Three multiply-adds per position, channel and state: A·h, b·x and c·h."""
    return 6 * math.prod(u) * a[1]


@register_flop_formula(torch.ops.signal_diffusion.scan_tokens)
def _scan_of_tokens(u: Sequence[int], delta: Sequence[int], a: Sequence[int], *args: Any, **kwargs: Any) -> int:
    return 6 * math.prod(delta) * a[1]


for _operator, _formula in FLOP_FORMULAS.items():
    register_flop_formula(_operator)(_formula)
