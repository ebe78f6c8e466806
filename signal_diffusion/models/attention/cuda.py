"""CUDA backends of neighbourhood attention, FlexAttention and NATTEN; imported on first use, because that is slow.

Functions that torch.compile must not trace (which library is installed, masks, which are made once) are constant to it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.util import find_spec as _find_spec
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from signal_diffusion.models.compilation import allow_many_shapes

__all__ = ["flex", "installed", "natten"]


@torch.compiler.assume_constant_result
def installed() -> tuple[str, ...]:
    """The installed backends, the preferred one first."""
    natten_too = ("natten",) if _has_libnatten() else ()
    return *natten_too, *(("flex",) if _find_spec("triton") else ())


def flex(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    """Neighbourhood attention of q, k, v (B, heads, H, W, D), the kernel within the grid, by FlexAttention.

    For each block of 128 queries, blocks of 128 keys that none of them sees are skipped. Tokens are numbered along the
    axis of which the kernel covers more, so that a block sees few others.
    """
    height, width = q.shape[2:4]
    if kernel[0] * width > kernel[1] * height:
        q, k, v = (x.transpose(2, 3) for x in (q, k, v))
        return flex(q, k, v, (kernel[1], kernel[0]), scale).transpose(2, 3)
    mask = _block_mask((height, width), kernel, q.device)
    # An enclosing torch.compile compiles it too. Otherwise it is compiled here: uncompiled FlexAttention is dense.
    compiled = torch.compiler.is_compiling() or q.device.type != "cuda"
    function = cast(Callable[..., Tensor], flex_attention) if compiled else _compiled_flex()
    q, k, v = (x.flatten(2, 3) for x in (q, k, v))
    return function(q, k, v, block_mask=mask, scale=scale).unflatten(2, (height, width))


def natten(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    """Neighbourhood attention of q, k, v (B, heads, H, W, D), the kernel within the grid and above 1, by NATTEN."""
    from natten import na2d  # type: ignore[import-not-found]

    q, k, v = (x.permute(0, 2, 3, 1, 4) for x in (q, k, v))  # (B, H, W, heads, D)
    return na2d(q, k, v, kernel_size=kernel, scale=scale).permute(0, 3, 1, 2, 4)


@functools.cache
def _has_libnatten() -> bool:
    """Whether NATTEN has its compiled library; it imports without it too."""
    if _find_spec("natten") is None:
        return False
    try:
        import natten
    except Exception:  # built for another version of torch, it can raise anything
        return False
    return bool(getattr(natten, "HAS_LIBNATTEN", False))


@functools.cache
def _compiled_flex() -> Callable[..., Tensor]:
    allow_many_shapes()  # beyond torch's limit it would run uncompiled, and so be dense
    return torch.compile(flex_attention, dynamic=False)


_masks: dict[str, BlockMask] = {}


def _block_mask(size: tuple[int, int], kernel: tuple[int, int], device: torch.device) -> BlockMask:
    _make_block_mask(size, kernel, device)
    return _masks[_key(size, kernel, device)]


# torch.compile calls this while it traces, and then reads the mask like any global.
@torch.compiler.assume_constant_result
def _make_block_mask(size: tuple[int, int], kernel: tuple[int, int], device: torch.device) -> bool:
    key = _key(size, kernel, device)
    if key not in _masks:
        _masks[key] = _new_block_mask(size, kernel, device)
    return True


@torch.compiler.assume_constant_result
def _key(size: tuple[int, int], kernel: tuple[int, int], device: torch.device) -> str:
    return f"{size} {kernel} {device}"


def _new_block_mask(size: tuple[int, int], kernel: tuple[int, int], device: torch.device) -> BlockMask:
    (height, width), (rows, columns) = size, kernel

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        row = key // width - (query // width - rows // 2).clamp(0, height - rows)
        column = key % width - (query % width - columns // 2).clamp(0, width - columns)
        return (row >= 0) & (row < rows) & (column >= 0) & (column < columns)

    return create_block_mask(seen, None, None, height * width, height * width, device=device)
