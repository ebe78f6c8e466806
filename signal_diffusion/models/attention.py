"""Attention: one function of each kind for all backbones, with interchangeable backends.

Neighbourhood attention (Hassani et al., https://arxiv.org/abs/2204.07143) has four backends, tested against one
reference:

- `dense`: SDPA with a mask, for small grids: its cost is quadratic in the number of tokens;
- `tiles`: tiles of queries, each with the keys that they can see, on every device: linear in time and memory;
- `flex`: FlexAttention (https://arxiv.org/abs/2412.05496), compiled, with a block mask, on CUDA;
- `natten`: the kernels of NATTEN (https://natten.org), if its compiled library is installed, on CUDA.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.errors import UserError

__all__ = [
    "FLOP_FORMULAS",
    "attention",
    "attention_kernel",
    "neighbourhood_attention",
    "neighbourhood_backends",
    "neighbourhood_kernel",
]

DENSE_TOKENS = 256
"""Up to this many tokens, the dense mask is as fast as tiles, or faster."""
SCORES = 2**18
"""Scores (of a tile, over heads and examples) that the CPU computes at once: 1 MB, which stays in its cache."""
LONGEST_TILE = 32
TILE_COST = 48
"""Overhead of a tile per key (copies, small matrix products), in units of queries: fitted on a CPU."""
FLEX_DIM = 16
"""Smallest head dimension that FlexAttention's matrix products support."""


def attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float | None = None) -> Tensor:
    """softmax(scale·q·kᵀ)·v over all tokens; q, k, v and the result are (B, heads, N, D); scale is 1/√D by default."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def attention_kernel() -> str:
    """The backend of `attention`."""
    return "torch SDPA"


def neighbourhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    kernel_size: tuple[int, int],
    *,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attention of each token to the `kernel_size` nearest rows and columns of a grid.

    q, k, v and the result are (B, heads, H, W, D), of any H and W; scale is 1/√D by default. The windows are NATTEN's:
    a window that would cross a border is moved inward, so that every token has the same number of keys; a window larger
    than an axis is the whole axis; an even window has one token more before its query than after it.

    `backend`, one of `neighbourhood_backends`, forces a backend; the default depends on the device, the grid and what
    is installed.

    Raises
    ------
    UserError
        If the kernel size is below 1 or the backend is unknown.
    """
    if min(kernel_size) < 1:
        raise UserError(f"neighbourhood attention: kernel_size is {kernel_size}: expected two integers of 1 or more")
    kernel = _clipped(kernel_size, q.shape[2:4])
    if q.device.type != "meta" and torch.is_autocast_enabled(q.device.type):
        dtype = torch.get_autocast_dtype(q.device.type)
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    exact = q.dtype == torch.float64
    backend = backend or _choose(q.device, (q.shape[2], q.shape[3]), kernel, q.shape[4], exact=exact)
    if backend not in _BACKENDS:
        raise UserError(f"neighbourhood attention: backend {backend!r} is unknown: expected {', '.join(_BACKENDS)}")
    return _BACKENDS[backend](q, k, v, kernel, q.shape[-1] ** -0.5 if scale is None else scale)


def neighbourhood_backends(device: torch.device) -> tuple[str, ...]:
    """The backends of `neighbourhood_attention` that can run and train on a device, the preferred one first."""
    if device.type != "cuda":
        return "tiles", "dense"
    from signal_diffusion.models import attention_cuda

    return *attention_cuda.installed(), "tiles", "dense"


def neighbourhood_kernel(device: torch.device, size: tuple[int, int], kernel_size: tuple[int, int], dim: int) -> str:
    """Name of the default backend of `neighbourhood_attention` on a device, for a grid of `size` and heads of `dim`."""
    names = {"natten": "NATTEN", "flex": "torch FlexAttention", "tiles": "torch, in tiles", "dense": "torch SDPA"}
    return names[_choose(device, size, _clipped(kernel_size, size), dim)]


def _clipped(kernel_size: Sequence[int], size: Sequence[int]) -> tuple[int, int]:
    """The kernel, at most as large as the grid."""
    return min(kernel_size[0], size[0]), min(kernel_size[1], size[1])


def _choose(
    device: torch.device, size: tuple[int, int], kernel: tuple[int, int], dim: int, *, exact: bool = False
) -> str:
    """The backend for a grid and a kernel within it; `exact` means float64."""
    if math.prod(size) <= DENSE_TOKENS or kernel == size:
        return "dense"
    if device.type != "cuda" or exact:
        return "tiles"
    able = {"natten": min(kernel) > 1 and dim % 8 == 0, "flex": dim >= FLEX_DIM, "tiles": True}
    return next(backend for backend in neighbourhood_backends(device) if able[backend])


# dense


def _dense(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    height, width = q.shape[2:4]
    # A tensor made under FakeTensorMode or while compiling must not stay in the cache.
    real = type(q) is Tensor and not torch.compiler.is_compiling()
    mask = (_cached_mask if real else _mask)((height, width), kernel, q.device)
    q, k, v = (x.flatten(2, 3) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, mask, scale=scale).unflatten(2, (height, width))


def _mask(size: tuple[int, int], kernel: tuple[int, int], device: torch.device) -> Tensor | None:
    """Which keys each query sees, (H·W, H·W); None for all."""
    if kernel == size:
        return None
    rows, columns = (_windows(_starts(n, k), k, n, device) for n, k in zip(size, kernel, strict=True))
    return _product(rows, columns)


_cached_mask = functools.lru_cache(maxsize=32)(_mask)


def _starts(size: int, window: int) -> tuple[int, ...]:
    """The first key of each query's window, on an axis of `size` tokens."""
    return tuple(min(max(query - window // 2, 0), size - window) for query in range(size))


def _windows(starts: Sequence[int], window: int, num_keys: int, device: torch.device) -> Tensor:
    """Which keys are in each query's window, (queries, keys)."""
    offset = torch.arange(num_keys, device=device) - torch.tensor(starts, device=device)[:, None]
    return (offset >= 0) & (offset < window)


def _product(rows: Tensor, columns: Tensor) -> Tensor:
    """The mask on a grid, (queries, keys), from the masks on its two axes."""
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(2, 3).flatten(0, 1)


# tiles


def _tiles(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    return _tiled(q, k, v, list(kernel), scale)


# A custom operator hides the loop: the compiler would unroll it, and autograd would keep copies of each tile's keys and
# probabilities.
@torch.library.custom_op("signal_diffusion::neighbourhood_attention", mutates_args=())
def _tiled(q: Tensor, k: Tensor, v: Tensor, kernel: Sequence[int], scale: float) -> Tensor:
    queries, keys, values = _planes(q) * scale, _planes(k), _planes(v)
    out = torch.empty_like(queries)
    for planes, tile in _pieces(queries, kernel):
        key, value = _tokens(keys, planes, tile.keys), _tokens(values, planes, tile.keys)
        weights = torch.baddbmm(tile.mask, _tokens(queries, planes, tile.queries), key.mT)
        torch.softmax(weights, -1, out=weights)
        part = out[planes, *tile.queries]
        part.copy_(torch.bmm(weights, value).view(part.shape))
    return out.view(q.shape).to(q.dtype)


@torch.library.custom_op("signal_diffusion::neighbourhood_attention_backward", mutates_args=())
def _tiled_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, kernel: Sequence[int], scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    # Probabilities are recomputed. The halos overlap, so gradients of keys and values are sums over tiles.
    queries, keys, values, upstream = _planes(q) * scale, _planes(k), _planes(v), _planes(grad)
    grad_q, grad_k, grad_v = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
    for planes, tile in _pieces(queries, kernel):
        query, given = _tokens(queries, planes, tile.queries), _tokens(upstream, planes, tile.queries)
        key, value = _tokens(keys, planes, tile.keys), _tokens(values, planes, tile.keys)
        weights = torch.baddbmm(tile.mask, query, key.mT)
        torch.softmax(weights, -1, out=weights)
        part = grad_v[planes, *tile.keys]
        part += torch.bmm(weights.mT, given).view(part.shape)
        scores = torch.bmm(given, value.mT)
        torch.ops.aten._softmax_backward_data.out(scores, weights, -1, scores.dtype, grad_input=scores)
        part = grad_k[planes, *tile.keys]
        part += torch.bmm(scores.mT, query).view(part.shape)
        part = grad_q[planes, *tile.queries]
        part.copy_(torch.bmm(scores, key).view(part.shape))
    grad_q *= scale
    return tuple(g.view(x.shape).to(x.dtype) for g, x in ((grad_q, q), (grad_k, k), (grad_v, v)))  # type: ignore[return-value]


@_tiled.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, kernel: Sequence[int], scale: float) -> Tensor:
    return q.new_empty(q.shape)


@_tiled_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, kernel: Sequence[int], scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, k, v, ctx.kernel, ctx.scale = inputs
    ctx.save_for_backward(q, k, v)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return *_tiled_backward(grad, *ctx.saved_tensors, ctx.kernel, ctx.scale), None, None


_tiled.register_autograd(_backward, setup_context=_setup_context)


def _flops(q: Sequence[int], k: Any, v: Any, kernel: Sequence[int], *args: Any, **kwargs: Any) -> int:
    return 4 * math.prod(q) * math.prod(kernel)


def _backward_flops(
    grad: Any, q: Sequence[int], k: Any, v: Any, kernel: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    return 10 * math.prod(q) * math.prod(kernel)


FLOP_FORMULAS: dict[Any, Callable[..., int]] = {
    torch.ops.signal_diffusion.neighbourhood_attention: _flops,
    torch.ops.signal_diffusion.neighbourhood_attention_backward: _backward_flops,
}
"""As `torch.utils.flop_counter` takes them: products of queries with their windows, counted as torch counts SDPA."""


class _Tile(NamedTuple):
    """A rectangle of queries, and the smallest rectangle of keys that contains all their windows."""

    queries: tuple[slice, slice]
    keys: tuple[slice, slice]
    mask: Tensor
    """Added to the scores, (queries, keys): 0 inside a query's window, −∞ outside."""


def _pieces(queries: Tensor, kernel: Sequence[int]) -> list[tuple[slice, _Tile]]:
    """Each tile with each group of planes; on a CPU, the scores of a group fit its cache."""
    num_planes, height, width, _ = queries.shape
    tiles = _tiling((height, width), (kernel[0], kernel[1]), queries.device, queries.dtype)
    most = max(tile.mask.numel() for tile in tiles)
    group = max(1, SCORES // most) if queries.device.type == "cpu" else num_planes
    return [(slice(first, first + group), tile) for first in range(0, num_planes, group) for tile in tiles]


def _planes(x: Tensor) -> Tensor:
    """(B, heads, H, W, D) → (B·heads, H, W, D), contiguous, in the precision of the sums."""
    return x.flatten(0, 1).to(torch.promote_types(x.dtype, torch.float32)).contiguous()


def _tokens(x: Tensor, planes: slice, rectangle: tuple[slice, slice]) -> Tensor:
    """A part of x (planes, H, W, D) as (planes, tokens, D)."""
    return x[planes, *rectangle].flatten(1, 2)


@functools.lru_cache(maxsize=32)
def _tiling(
    size: tuple[int, int], kernel: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> tuple[_Tile, ...]:
    lengths = min(_candidates(size), key=lambda lengths: _cost(size, kernel, lengths))
    rows, columns = (_spans(*axis) for axis in zip(size, kernel, lengths, strict=True))
    masks: dict[Any, Tensor] = {}  # all inner tiles share one
    tiles = []
    for row_queries, row_keys, row_starts in rows:
        for column_queries, column_keys, column_starts in columns:
            pattern = row_starts, column_starts
            if pattern not in masks:
                seen = _product(
                    _windows(row_starts, kernel[0], row_keys.stop - row_keys.start, device),
                    _windows(column_starts, kernel[1], column_keys.stop - column_keys.start, device),
                )
                masks[pattern] = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, -math.inf)
            tiles.append(_Tile((row_queries, column_queries), (row_keys, column_keys), masks[pattern]))
    return tuple(tiles)


def _candidates(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Lengths of tiles that divide the axes into about equal parts."""
    rows, columns = (sorted({-(-n // -(-n // t)) for t in range(1, min(n, LONGEST_TILE) + 1)}) for n in size)
    return [(r, c) for r in rows for c in columns]


def _cost(size: tuple[int, int], kernel: tuple[int, int], lengths: tuple[int, int]) -> float:
    tiles = math.prod(-(-n // length) for n, length in zip(size, lengths, strict=True))
    keys = math.prod(min(n, t + k - 1) for n, t, k in zip(size, lengths, kernel, strict=True))
    return tiles * keys * (math.prod(lengths) + TILE_COST)


def _spans(size: int, window: int, length: int) -> list[tuple[slice, slice, tuple[int, ...]]]:
    """The tiles along an axis: their queries, all their keys, and where in these keys each query's window starts."""
    spans = []
    starts = _starts(size, window)
    for first in range(0, size, length):
        own = starts[first : first + length]
        spans.append((slice(first, first + len(own)), slice(own[0], own[-1] + window), tuple(s - own[0] for s in own)))
    return spans


# FlexAttention and NATTEN


def _flex(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    from signal_diffusion.models import attention_cuda

    return attention_cuda.flex(q, k, v, kernel, scale)


def _natten(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    from signal_diffusion.models import attention_cuda

    return attention_cuda.natten(q, k, v, kernel, scale)


_BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, tuple[int, int], float], Tensor]] = {
    "natten": _natten,
    "flex": _flex,
    "tiles": _tiles,
    "dense": _dense,
}
