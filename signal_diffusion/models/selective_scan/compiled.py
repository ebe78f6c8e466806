"""The selective scan by the functions that numba compiles for the CPU (`cpu_kernel`), without a compiler installed.

They are compiled once and kept in a cache: `$NUMBA_CACHE_DIR` or, if it is not set, the folder `__pycache__` of this
package or else the user's cache folder. If none can be written, every process compiles them, which takes seconds.
"""

from __future__ import annotations

import importlib
import logging
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["compiled_backward", "compiled_forward", "cpu_kernel", "state_shape"]

LOG = logging.getLogger(__name__)


@cache
def cpu_kernel() -> Any:
    """The functions to compile and their sizes; None if numba is not installed or does not work, which is a warning."""
    if find_spec("numba") is None:
        return None
    try:
        return importlib.import_module("signal_diffusion.models.selective_scan.cpu_kernel")
    except Exception as error:  # built for another version of NumPy, it raises ImportError, but not only
        LOG.warning("numba is installed but does not work, so selective scans are slower: %s", error)
        return None


@cache
def _compiled() -> tuple[Callable[..., None], Callable[..., None]]:
    """The forward and the backward pass, compiled or from the cache."""
    from numba import float32, int64, njit, types

    made = cpu_kernel()
    last = float32[:, :, :, ::1]
    inputs = (last, last, float32[:, :, ::1], float32[:, :, :, :], float32[:, :, :, :], float32[:, ::1], int64[:, ::1])
    results = {
        made.forward: (last, last),
        made.backward: (*([last] * 5), *([float32[:, :, :, :, ::1]] * 2), float32[:, :, ::1]),
    }

    def compiled(**cached: bool) -> tuple[Callable[..., None], Callable[..., None]]:
        forward, backward = (
            njit(
                types.void(types.UniTuple(int64, 2), *inputs, *outputs),
                fastmath=made.FAST,
                nogil=True,
                error_model="numpy",
                **cached,
            )(function)
            for function, outputs in results.items()
        )
        return forward, backward

    try:
        return compiled(cache=True)
    except Exception as error:  # no folder can be written, the disk is full, or what is in the cache is broken
        LOG.warning("numba's cache cannot be used, so every process compiles the selective scan: %s", error)
        return compiled()


def state_shape(delta_shape: tuple[int, ...], num_states: int) -> tuple[int, int, int, int]:
    """Shape of the states that the forward pass stores for delta (K, B, L, E): units, chunks, N, channels."""
    chunk, width = cpu_kernel().CHUNK, cpu_kernel().WIDTH
    groups, batch, length, channels = delta_shape
    return groups * batch * -(-channels // width), -(-length // chunk), num_states, width


def compiled_forward(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The output in the type of u, and states for the backward pass; see `scan_tokens` for the inputs."""
    u, delta = inputs[:2]
    arrays, _ = _arrays(*inputs)
    y = _empty(*delta.shape)
    states = _empty(*state_shape(delta.shape, inputs[2].shape[-1]))
    _share(_compiled()[0], len(states), *arrays, y, states)
    return y.to(u.dtype), states


def compiled_backward(grad: Tensor, *inputs_and_states: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the seven inputs before the order, from that of the output."""
    *inputs, states = inputs_and_states
    u, delta, a, _, _, d, delta_bias, _ = inputs
    arrays, raw_delta = _arrays(*inputs)
    groups, batch, length, channels = delta.shape
    num_states = a.shape[-1]
    du, ddelta = _empty(2, *delta.shape)
    da, dd = _empty(batch, groups, num_states, channels), _empty(batch, groups, channels)
    db, dc = _empty(2, -(-channels // cpu_kernel().WIDTH), batch, length, groups, num_states)
    outputs = du, ddelta, da, db, dc, dd
    _share(_compiled()[1], len(states), *arrays, states, grad.float().contiguous(), *outputs)
    ddelta = torch.ops.aten.softplus_backward(ddelta, raw_delta, 1, 20)
    return (
        du.sum(0, keepdim=True) if len(u) < groups else du,
        ddelta,
        da.sum(0).mT.reshape(a.shape),
        db.sum(0),
        dc.sum(0),
        dd.sum(0).view(d.shape),
        ddelta.sum((1, 2)).view(delta_bias.shape),
    )


def _arrays(
    u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor, order: Tensor
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The kernel's inputs in float32, and delta before its softplus."""
    groups, channels = delta.shape[0], delta.shape[-1]
    raw_delta = (delta.float() + delta_bias.float().view(groups, 1, 1, channels)).contiguous()
    rates = (a.float() / math.log(2)).view(groups, channels, -1).mT.contiguous()
    rest = (b.float(), c.float(), d.float().view(groups, channels).contiguous(), order.contiguous())
    return (u.float().contiguous(), F.softplus(raw_delta), rates, *rest), raw_delta


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _share(function: Callable[..., None], units: int, *tensors: Tensor) -> None:
    """Run a compiled function on all units, in as many threads as torch uses."""
    arrays: list[np.ndarray[Any, Any]] = [x.detach().numpy() for x in tensors]
    threads = min(torch.get_num_threads(), units)
    parts = [(units * i // threads, units * (i + 1) // threads) for i in range(threads)]
    if threads == 1:
        function(parts[0], *arrays)
    else:
        list(_threads(threads, os.getpid()).map(lambda part: function(part, *arrays), parts))


@cache
def _threads(number: int, process: int) -> ThreadPoolExecutor:
    """A pool of threads; one for each process, because threads do not survive a fork."""
    return ThreadPoolExecutor(number, thread_name_prefix="selective-scan")
