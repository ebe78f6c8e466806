"""The compiled selective scan of tokens in several orders as one operator; it reads tokens where they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from signal_diffusion.models.selective_scan.compiled import compiled_backward, compiled_forward, state_shape

__all__ = ["scan_tokens"]


def scan_tokens(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor, order: Tensor
) -> Tensor:
    """The `selective_scan` of tokens on the CPU in K orders, each with its own parameters, by the compiled kernel.

    Parameters
    ----------
    u
        Input, (1 or K, B, L, E).
    delta
        Step, (K, B, L, E).
    a
        (K·E, N), negative.
    b, c
        (B, L, K, N).
    d, delta_bias
        (K·E,).
    order
        The tokens in the order of their visit, (K, L), int64.

    Returns
    -------
    (K, B, L, E), each token in its own place, in the type of u; the state is float32.
    """
    return _scan_tokens(u, delta, a, b, c, d, delta_bias, order)[0]


@torch.library.custom_op("signal_diffusion::scan_tokens", mutates_args=())
def _scan_tokens(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """The output, and states for the backward pass."""
    return compiled_forward(u, delta, a, b, c, d, delta_bias, order)


@_scan_tokens.register_fake
def _(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    states = state_shape(delta.shape, a.shape[-1])
    return u.new_empty(delta.shape), u.new_empty(states, dtype=torch.float32)


@torch.library.custom_op("signal_diffusion::scan_tokens_backward", mutates_args=())
def _scan_tokens_backward(grad: Tensor, inputs: list[Tensor], states: Tensor) -> list[Tensor]:
    """The gradients of the seven inputs before the order, each contiguous and in its input's type."""
    gradients = compiled_backward(grad, *inputs, states)
    return [g.to(x.dtype).contiguous() for g, x in zip(gradients, inputs[:-1], strict=True)]


@_scan_tokens_backward.register_fake
def _(grad: Tensor, inputs: list[Tensor], states: Tensor) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in inputs[:-1]]


def _save_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.set_materialize_grads(False)  # None, not zeros, as the gradient of the states


def _differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    *inputs, states = ctx.saved_tensors
    return (*_scan_tokens_backward(grad, inputs, states), None)


_scan_tokens.register_autograd(_differentiate, setup_context=_save_context)
