"""Neighbourhood attention (Hassani et al., https://arxiv.org/abs/2204.07143), with interchangeable backends.

All are tested against one reference:

- `dense`: SDPA with a mask, for small grids;
- `tiles`: tiles of queries, each with the keys that they can see, on every device;
- `flex`: FlexAttention (https://arxiv.org/abs/2412.05496), compiled, with a block mask, on CUDA;
- `natten`: the kernels of NATTEN (https://natten.org), if its compiled library is installed, on CUDA.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.models.attention.dense import dense_attention
from signal_diffusion.models.attention.tiles import tiled_attention

__all__ = ["neighbourhood_attention", "neighbourhood_backends", "neighbourhood_kernel"]

DENSE_TOKENS = 256
"""Up to this many tokens, the dense mask is as fast as tiles, or faster."""
FLEX_DIM = 16
"""Smallest head dimension that FlexAttention's matrix products support."""


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
    from signal_diffusion.models.attention import cuda

    return *cuda.installed(), "tiles", "dense"


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


def _flex(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    from signal_diffusion.models.attention import cuda

    return cuda.flex(q, k, v, kernel, scale)


def _natten(q: Tensor, k: Tensor, v: Tensor, kernel: tuple[int, int], scale: float) -> Tensor:
    from signal_diffusion.models.attention import cuda

    return cuda.natten(q, k, v, kernel, scale)


_BACKENDS: dict[str, Callable[[Tensor, Tensor, Tensor, tuple[int, int], float], Tensor]] = {
    "natten": _natten,
    "flex": _flex,
    "tiles": tiled_attention,
    "dense": dense_attention,
}
