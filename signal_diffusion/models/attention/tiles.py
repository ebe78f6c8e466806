"""Neighbourhood attention in tiles of queries, each with the keys that they can see: linear in time and memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from signal_diffusion.models.attention.windows import grid_mask, in_windows, window_starts

__all__ = ["FLOP_FORMULAS", "tiled_attention"]

SCORES = 2**18
"""Scores (of a tile, over heads and examples) that the CPU computes at once: 1 MB, which stays in its cache."""
LONGEST_TILE = 32
TILE_COST = 48
"""Overhead of a tile per key (copies, small matrix products), in units of queries: fitted on a CPU."""


def tiled_attention(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    """Attention of q, k, v (B, heads, H, W, D), tile by tile, the kernel within the grid."""
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
                seen = grid_mask(
                    in_windows(row_starts, kernel[0], row_keys.stop - row_keys.start, device),
                    in_windows(column_starts, kernel[1], column_keys.stop - column_keys.start, device),
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
    starts = window_starts(size, window)
    for first in range(0, size, length):
        own = starts[first : first + length]
        spans.append((slice(first, first + len(own)), slice(own[0], own[-1] + window), tuple(s - own[0] for s in own)))
    return spans
