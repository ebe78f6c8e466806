"""The selective scan as one operator, with interchangeable backends.

It is opaque to the compiler, which would otherwise unroll the loops.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.selective_scan.chunked import CHUNK, chunked_backward, chunked_forward, type_of_state
from signal_diffusion.models.selective_scan.compiled import cpu_kernel
from signal_diffusion.models.selective_scan.mamba_kernel import MAMBA_CHUNK, extension, mamba_backward, mamba_forward
from signal_diffusion.models.selective_scan.tokens import scan_tokens

__all__ = ["selective_scan", "selective_scan_backends", "selective_scan_kernel"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    d: Tensor,
    delta_bias: Tensor,
    *,
    backend: str | None = None,
) -> Tensor:
    """y_l = c_l·h_l + d·u_l with the state h_l = exp(Δ_l·a)·h_{l−1} + Δ_l·b_l·u_l and Δ = softplus(delta + bias).

    Parameters
    ----------
    u, delta
        Input and step, (B, D, L).
    a
        (D, N), negative, float32.
    b, c
        (B, G, N, L), shared by the D / G channels of a group.
    d, delta_bias
        (D,), float32.
    backend
        One of `selective_scan_backends` for the device of u; None = `selective_scan_kernel`.

    Returns
    -------
    (B, D, L) in the type of u; the state is float32, or float64 if u is.

    Raises
    ------
    UserError
        If the requested backend cannot run.
    """
    if _chosen(backend, u) == "numba":
        return _scan_by_tokens(u, delta, a, b, c, d, delta_bias)
    return _scan(u, delta, a, b, c, d, delta_bias, backend)[0]


@torch.compiler.assume_constant_result
def selective_scan_kernel(device: torch.device, dtype: torch.dtype = torch.float32) -> str:
    """The default backend of `selective_scan` for a device and a type of u; float64 always uses torch."""
    return "torch" if dtype == torch.float64 else selective_scan_backends(device)[0]


@torch.compiler.assume_constant_result
def selective_scan_backends(device: torch.device) -> tuple[str, ...]:
    """The backends that can run on a device, the fastest first."""
    compiled = {"cuda": ("mamba_ssm", extension), "cpu": ("numba", cpu_kernel)}
    name, module = compiled.get(device.type, ("", lambda: None))
    return (name, "torch") if module() else ("torch",)


def _scan_by_tokens(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor) -> Tensor:
    """Copy to the layout of `scan_tokens`, one order for each group, and back."""
    groups, length = b.shape[1], b.shape[3]
    u, delta = (x.unflatten(1, (groups, -1)).permute(1, 0, 3, 2) for x in (u, delta))
    b, c = (x.permute(0, 3, 1, 2) for x in (b, c))
    order = torch.arange(length, device=u.device).expand(groups, -1)
    return scan_tokens(u, delta, a, b, c, d, delta_bias, order).permute(1, 0, 3, 2).flatten(1, 2)


@torch.library.custom_op("signal_diffusion::selective_scan", mutates_args=())
def _scan(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor, backend: str | None
) -> tuple[Tensor, Tensor]:
    """The output, and states for the backward pass."""
    forward = mamba_forward if _chosen(backend, u) == "mamba_ssm" else chunked_forward
    return forward(u, delta, a, b, c, d, delta_bias)


@_scan.register_fake
def _(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor, backend: str | None
) -> tuple[Tensor, Tensor]:
    batch, groups, num_states, length = b.shape
    channels = u.shape[1]
    if _chosen(backend, u) == "mamba_ssm":
        states = a.new_empty(batch, channels, -(-length // MAMBA_CHUNK), 2 * num_states)
    else:
        shape = (-(-length // CHUNK) + 1, batch * groups, num_states, channels // groups)
        states = u.new_empty(shape, dtype=type_of_state(u))
    return u.new_empty(u.shape), states


@torch.library.custom_op("signal_diffusion::selective_scan_backward", mutates_args=())
def _scan_backward(grad: Tensor, inputs: list[Tensor], states: Tensor, backend: str | None) -> list[Tensor]:
    """The gradients of the seven inputs, each contiguous and in its input's type."""
    u = inputs[0]
    backward = mamba_backward if _chosen(backend, u) == "mamba_ssm" else chunked_backward
    gradients = zip(backward(grad, *inputs, states), inputs, strict=True)
    return [g.to(x.dtype).contiguous() for g, x in gradients]


@_scan_backward.register_fake
def _(grad: Tensor, inputs: list[Tensor], states: Tensor, backend: str | None) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in inputs]


def _save_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7], output[1])
    ctx.backend = inputs[7]
    ctx.set_materialize_grads(False)  # None, not zeros, as the gradient of the states


def _differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    *inputs, states = ctx.saved_tensors
    return (*_scan_backward(grad, inputs, states, ctx.backend), None)


_scan.register_autograd(_differentiate, setup_context=_save_context)


def _chosen(backend: str | None, u: Tensor) -> str:
    if backend is None:
        return selective_scan_kernel(u.device, u.dtype)
    backends = ("torch",) if u.dtype == torch.float64 else selective_scan_backends(u.device)
    if backend not in backends:
        raise UserError(
            f"selective scan: backend {backend!r} cannot run on {u.device.type} in {str(u.dtype)[6:]}; "
            f"expected {listed(backends)}, or None for the fastest"
        )
    return backend
