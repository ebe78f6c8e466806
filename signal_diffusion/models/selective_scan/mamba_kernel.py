"""The selective scan by the kernel of mamba-ssm (https://github.com/state-spaces/mamba), on CUDA."""

from __future__ import annotations

import importlib
from functools import cache, reduce
from typing import Any

import torch
from torch import Tensor

__all__ = ["MAMBA_CHUNK", "extension", "mamba_backward", "mamba_forward"]

MAMBA_CHUNK = 2048
"""Positions between two states that the kernel stores."""


@cache
def extension() -> Any:
    """mamba_ssm's compiled extension, or None; mamba_ssm imports without it too. Only called for CUDA."""
    try:
        return importlib.import_module("selective_scan_cuda")
    except ImportError:
        return None


def _mamba_inputs(*inputs: Tensor) -> tuple[Any, ...]:
    """The inputs in the kernel's order (None = no gate), types and strides."""
    u, delta, a, b, c, d, delta_bias = inputs
    common = reduce(torch.promote_types, (x.dtype for x in (u, delta, b, c)))
    u, delta, b, c = (x.to(common).contiguous() for x in (u, delta, b, c))
    a, d, delta_bias = (x.float().contiguous() for x in (a, d, delta_bias))
    return u, delta, a, b, c, d, None, delta_bias


def mamba_forward(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The output in the type of u, and the states that the kernel stores."""
    y, states = extension().fwd(*_mamba_inputs(*inputs), True)
    return y.to(inputs[0].dtype), states


def mamba_backward(grad: Tensor, *inputs_and_states: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the seven inputs, from that of the output."""
    *inputs, states = inputs_and_states
    u, *others = _mamba_inputs(*inputs)
    grad = grad.to(u.dtype).contiguous()
    return tuple(extension().bwd(u, *others, grad, states, None, None, True, False)[:7])
