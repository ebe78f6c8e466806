"""The selective scan of Mamba (Gu & Dao, https://arxiv.org/abs/2312.00752), whatever kernel computes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["selective_scan", "selective_scan_kernel"]


def selective_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, delta_bias: Tensor) -> Tensor:
    """y_l = c_l·h_l + d·u_l, of the state h_l = exp(Δ_l·a)·h_{l−1} + Δ_l·b_l·u_l, with Δ = softplus(delta + bias).

    Parameters
    ----------
    u, delta
        Input and step, (B, D, L).
    a
        (D, N), negative, float32.
    b, c
        (B, G, N, L), shared by the D / G channels of a group.
    d, delta_bias
        (D,), float32.

    Returns
    -------
    (B, D, L) in the type of u; the state is float32.
    """
    dt = F.softplus(delta.float() + delta_bias[:, None])
    repeats = u.shape[1] // b.shape[1]
    b, c = (x.float().repeat_interleave(repeats, dim=1) for x in (b, c))  # (B, D, N, L)
    h, ys = torch.zeros_like(b[..., 0]), []
    for i in range(u.shape[-1]):
        h = (dt[..., i, None] * a).exp() * h + dt[..., i, None] * b[..., i] * u[..., i, None].float()
        ys.append((c[..., i] * h).sum(-1))
    return (torch.stack(ys, -1) + d[:, None] * u.float()).to(u.dtype)


def selective_scan_kernel(device: torch.device) -> str:
    """What computes `selective_scan` on a device."""
    return "torch, a loop"
