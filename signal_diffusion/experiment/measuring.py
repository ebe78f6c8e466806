"""Size and cost of a network, measured without the memory and the time that it would take to train it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from signal_diffusion.config.sources import CONFIG_NAME
from signal_diffusion.errors import UserError

__all__ = ["built_within", "kept_bytes", "measured"]

MAX_PARAMETERS, MAX_MULTIPLY_ADDS, MAX_VALUES = 2e7, 2e10, 1e8
"""Largest network and forward pass of a batch that are computed, not simulated: about a second on a laptop's CPU, and
half a GiB."""
MAX_WIDTH = 2**11
"""Longest axis of a weight of a network that is built, because a table of positions takes as much for each token."""
SPARE = 10**8
"""Values that a network may have beyond its file, such as tables of positions: 0.4 GiB."""

Network = TypeVar("Network", bound=nn.Module)
Result = TypeVar("Result")


def measured(
    build: Callable[[], Network], positions: Callable[[Network], int], measure: Callable[[Network], Result]
) -> tuple[Network, Result]:
    """Build a network with random weights, and return it with what `measure` finds in its forward pass.

    Small networks are computed, in about a second. Larger ones, by their number of parameters and by the `positions`
    of a batch that each weight is applied to, are simulated with PyTorch's fake tensors, which take no memory and no
    time, but importing them takes longer than a second and would double the time of `config check`.
    """
    with torch.random.fork_rng(devices=[]), suppress(_TooLargeError):
        with _Limit(MAX_PARAMETERS, max_width=MAX_WIDTH):
            network = build()
        if _is_fast(network, positions(network)):
            return network, measure(network)
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        network = build()
        return network, measure(network)


@contextmanager
def built_within(weights: Path) -> Iterator[None]:
    """Refuse to build a network in the block that is far larger than a file of its weights.

    A checkpoint of others could name a network that fills the memory before its weights are read.

    Raises
    ------
    UserError
        If it takes more than `SPARE` values beyond 4 per byte of the file.
    """
    try:
        with _Limit(SPARE + 4 * weights.stat().st_size, max_width=math.inf):
            yield
    except _TooLargeError:
        raise UserError(f"{weights}: has too few weights for the network that {CONFIG_NAME} describes") from None


def kept_bytes(network: nn.Module, *inputs: Any, bf16: bool) -> int:
    """Bytes that autograd keeps after a forward pass, without the parameters."""
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> None:  # a graph that kept a tensor which refers to it would never be freed
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda nothing: nothing)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        network(*inputs)
    return sum(storage.nbytes() for storage in kept.values())


def _is_fast(network: nn.Module, positions: int) -> bool:
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    multiply_adds = positions * sum(weight.numel() for weight in weights)
    values = positions * sum(len(weight) for weight in weights)  # a weight's first axis is what it puts out
    return multiply_adds <= MAX_MULTIPLY_ADDS and values <= MAX_VALUES


class _TooLargeError(Exception):
    """The network has too many parameters to be built in memory."""


class _Limit(TorchFunctionMode):
    """Stop building a network before its weights have more than `limit` values together, or one of them is wide."""

    def __init__(self, limit: float, *, max_width: float) -> None:
        super().__init__()
        self._left, self._max_width = limit, max_width

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.empty, torch.zeros, torch.ones):
            size = args or (kwargs.get("size", ()),)
            shape = size[0] if isinstance(size[0], list | tuple) else size
            self._left -= math.prod(shape)
            if self._left < 0 or max(shape, default=0) > self._max_width:
                raise _TooLargeError
        return func(*args, **kwargs)
