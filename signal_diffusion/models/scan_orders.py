"""Orders in which a scan visits the tokens of a grid, and functions that permute tokens into an order and back.

Tokens are visited row by row, column by column, or window by window (LocalMamba, https://arxiv.org/abs/2403.09338),
forwards or in reverse. All orders are permutations of a grid of any height and width. Windows that would cross its
border are smaller, not padded, because the state of a scan would decay over padding, and the scan would be longer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = ["Direction", "inverse_order", "scan", "scan_order", "unscan"]

Direction = Literal["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w7", "w7_flip"]
"""h: row by row; v: column by column; w2, w7: by windows of 2 × 2, 7 × 7, row by row inside; flip: in reverse."""


def scan_order(direction: Direction, height: int, width: int) -> Tensor:
    """The tokens of a grid, numbered row by row, in the order of their visit: a permutation (H·W,), int64."""
    return torch.tensor(_scan_order(direction, height, width))  # on the default device; the cache has NumPy arrays


def inverse_order(order: Tensor) -> Tensor:
    """Each token's index in `order`: the permutations (…, L) that undo those of `order`."""
    return order.argsort(dim=-1)


def scan(tokens: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Arrange tokens (B, D, L) in K orders (K, L), which `inverse` undoes: (B, K, D, L)."""
    return _Scan.apply(tokens, order, inverse)


def unscan(scanned: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Undo `scan` for each of K orders (K, L) and sum over them: (B, K, D, L) → (B, D, L)."""
    return _Unscan.apply(scanned, order, inverse)


class _Scan(torch.autograd.Function):
    """A gather whose gradient is a gather too: indexing's uses atomic adds, which are slow and not deterministic."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return _gathered(tokens, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        _, inverse = ctx.saved_tensors
        return _gathered_sum(gradient, inverse), None, None


class _Unscan(torch.autograd.Function):
    """The transpose of `_Scan`."""

    @staticmethod
    def forward(ctx: Any, scanned: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return _gathered_sum(scanned, inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        order, _ = ctx.saved_tensors
        return _gathered(gradient, order), None, None


def _gathered(tokens: Tensor, order: Tensor) -> Tensor:
    shape = (len(tokens), len(order), *tokens.shape[1:])
    return tokens[:, None].expand(shape).gather(-1, order[:, None].expand(shape))


def _gathered_sum(scanned: Tensor, inverse: Tensor) -> Tensor:
    return scanned.gather(-1, inverse[:, None].expand_as(scanned)).sum(1)


@lru_cache(maxsize=256)
def _scan_order(direction: Direction, height: int, width: int) -> np.ndarray:
    rows, columns = np.indices((height, width)).reshape(2, -1)
    kind, _, flip = direction.partition("_")
    if kind == "h":
        keys = [rows, columns]
    elif kind == "v":
        keys = [columns, rows]
    else:
        size = int(kind[1:])
        keys = [rows // size, columns // size, rows, columns]
    order = np.lexsort(keys[::-1])  # lexsort's last key is its primary one
    return order[::-1].copy() if flip else order
