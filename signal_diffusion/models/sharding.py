"""FSDP2: weights, gradients, optimizer state and averages are split over processes, and put together where it matters.

A sharded tensor is a DTensor: it has the shape of the whole, and each process holds some of its rows. torch.distributed
is imported only where tensors are sharded, so these are told by a method that other tensors lack.
Zhao et al., "PyTorch FSDP", https://arxiv.org/abs/2304.11277; https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["free_gathered", "is_sharded", "local", "norms_of", "shard", "split_like", "summed", "whole"]


def shard(model: nn.Module, blocks: Iterable[nn.Module], device: torch.device, *, reshard_after_forward: bool) -> None:
    """Split the parameters of a model over all processes, in place and on `device`; to be called on each of them.

    Each block is gathered for its forward and its backward pass; what is outside blocks stays gathered from one to the
    other. All processes must have the same weights before.

    Parameters
    ----------
    reshard_after_forward
        Free a gathered block after its forward pass, and gather it again for the backward pass (ZeRO-3); False keeps
        all weights in between, and shards only gradients and the optimizer (ZeRO-2).
    """
    from torch.distributed import get_world_size
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard_after_forward)
    fully_shard(model, mesh=mesh)


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds only a part of a tensor."""
    return hasattr(tensor, "full_tensor")


def local(tensors: Sequence[Tensor]) -> list[Tensor]:
    """What this process holds of tensors; changes in place change them. A shard may be empty."""
    return [_local(tensor) for tensor in tensors]


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor; one that is sharded is gathered, on all processes together."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def split_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole `value`, sharded as `like` is, on its device; `value` itself if that is not."""
    if is_sharded(value) or not is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = like
    # without a source: every process has read the same file, so none needs to send it
    return distribute_tensor(value.to(like.device), sharded.device_mesh, sharded.placements, src_data_rank=None)


def summed(values: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """The sum over processes of what each found in its parts of `tensors`; `values` if these are not sharded."""
    if tensors and is_sharded(tensors[0]):
        torch.distributed.all_reduce(values)
    return values


def norms_of(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of each tensor, (P,), also of those that are sharded."""
    norms = torch.stack(torch._foreach_norm(local(tensors)))
    return summed(norms.square(), tensors).sqrt() if is_sharded(tensors[0]) else norms


def free_gathered(model: nn.Module) -> None:
    """Free the weights that a forward pass without a backward pass has left gathered.

    Otherwise the next one would use them, even if the sharded weights have changed.
    """
    for module in model.modules():
        reshard: Any = getattr(module, "reshard", None)
        if reshard:
            reshard()


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]
