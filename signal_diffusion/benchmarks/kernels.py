"""The speed of our two kernels, forward and backward, by each backend of this machine and by plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.benchmarks.machine import ceilings, default_device, default_precision, dtype_of
from signal_diffusion.benchmarks.measuring import BOTH_PASSES, Row, Variant, compared
from signal_diffusion.benchmarks.report import Report
from signal_diffusion.models.attention.neighbourhood import neighbourhood_attention, neighbourhood_backends
from signal_diffusion.models.selective_scan.operator import selective_scan, selective_scan_backends

__all__ = ["attention_report", "scan_report"]

HEAD_DIM, KERNEL = 64, 7
GRIDS = ((64, 64), (32, 32), (20, 128))
CHANNELS, STATES = 192, 8
LENGTHS = (512, 1024)


def attention_report(batch: int, precision: str | None, *, rounds: int) -> Report:
    """Measure neighbourhood attention on grids of rows × columns; `precision` None = what the device computes in."""
    device, dtype = _chosen(precision)
    rows = [row for grid in GRIDS for row in _attention(batch, grid, device=device, dtype=dtype, rounds=rounds)]
    return Report.of("attention", rows)


def scan_report(batch: int, precision: str | None, *, rounds: int) -> Report:
    """Measure the selective scan of sequences; `precision` None = what the device computes in."""
    device, dtype = _chosen(precision)
    rows = [row for length in LENGTHS for row in _scan(batch, length, device=device, dtype=dtype, rounds=rounds)]
    return Report.of("scan", rows)


def _chosen(precision: str | None) -> tuple[torch.device, torch.dtype]:
    device = default_device()
    return device, dtype_of(precision or default_precision(device))


def _attention(
    batch: int, grid: tuple[int, int], *, device: torch.device, dtype: torch.dtype, rounds: int
) -> list[Row]:
    """Rows of neighbourhood attention of 7 × 7 tokens on a grid of rows × columns; one head of 64 channels."""
    shape = (batch, 1, *grid, HEAD_DIM)
    inputs = [torch.randn(shape, device=device, dtype=dtype, requires_grad=True) for _ in range(3)]
    calls: dict[str, Callable[..., Tensor]] = {
        backend: partial(neighbourhood_attention, kernel_size=(KERNEL, KERNEL), backend=backend)
        for backend in neighbourhood_backends(device)
    }
    tokens, keys = grid[0] * grid[1], min(KERNEL, grid[0]) * min(KERNEL, grid[1])
    variants = [
        Variant(
            name=name,
            call=partial(_both_passes, call, inputs),
            examples=batch,
            flops=BOTH_PASSES * 4 * batch * tokens * keys * HEAD_DIM,  # of these products only, whatever is computed
        )
        for name, call in calls.items()
    ]
    case = f"{KERNEL} × {KERNEL} of {grid[0]} × {grid[1]} tokens, batch {batch}"
    return compared(case, variants, ceilings(device, dtype), device=device, rounds=rounds)


def _scan(batch: int, length: int, *, device: torch.device, dtype: torch.dtype, rounds: int) -> list[Row]:
    """Rows of the selective scan of 192 channels with 8 states each, and of a loop over positions in PyTorch."""
    u, delta = (torch.randn(batch, CHANNELS, length, device=device, dtype=dtype) for _ in range(2))
    b, c = (torch.randn(batch, 1, STATES, length, device=device, dtype=dtype) for _ in range(2))
    a, d, bias = -torch.rand(CHANNELS, STATES, device=device) - 0.1, *torch.randn(2, CHANNELS, device=device)
    inputs = [x.requires_grad_() for x in (u, delta, a, b, c, d, bias)]
    calls: dict[str, Callable[..., Tensor]] = {
        backend: partial(selective_scan, backend=backend) for backend in selective_scan_backends(device)
    }
    variants = [
        Variant(
            name=name,
            call=partial(_both_passes, call, inputs),
            examples=batch,
            flops=BOTH_PASSES * 6 * u.numel() * STATES,
        )
        for name, call in {**calls, "loop": _loop}.items()
    ]
    case = f"{length} positions, {CHANNELS} channels × {STATES} states, batch {batch}"
    return compared(case, variants, ceilings(device, dtype), device=device, rounds=rounds)


def _both_passes(call: Callable[..., Tensor], inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(call(*inputs).sum(), inputs)


def _loop(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, bias: Tensor) -> Tensor:
    """The selective scan of one group, a position at a time."""
    dt = F.softplus(delta + bias[:, None])
    decay, x = (dt[..., None] * a[:, None]).exp(), (dt * u)[..., None] * b.mT  # (B, D, L, N)
    h, states = torch.zeros_like(x[:, :, 0]), []
    for decay_i, x_i in zip(decay.unbind(2), x.unbind(2), strict=True):
        h = decay_i * h + x_i
        states.append(h)
    return (torch.stack(states, 2) * c.mT).sum(-1) + d[:, None] * u
