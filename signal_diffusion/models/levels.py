"""What hierarchical backbones share: tokens on a grid (B, H, W, D), merged and split between levels; their norm."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["AdaRMSNorm", "TokenMerge", "TokenSplit"]


class AdaRMSNorm(nn.Module):
    """x / rms(x) · (1 + linear(condition)), over the channels of (B, H, W, D); a plain RMS norm at first.

    Crowson et al., https://arxiv.org/abs/2401.11605
    """

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.scale = nn.Linear(condition_width, width, bias=False)
        nn.init.zeros_(self.scale.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise x (B, H, W, D) with the condition (B, C)."""
        # float32, as bf16 cannot tell 1 + scale from 1 while the scale is small
        scale = 1 + self.scale(condition).float()[:, None, None]
        return (F.rms_norm(x.float(), x.shape[-1:], eps=1e-6) * scale).to(x.dtype)


class TokenMerge(nn.Module):
    """Each `factor` = (rows, columns) of tokens, side by side, through a linear layer: (B, H, W, D) to fewer, wider."""

    def __init__(self, width: int, width_out: int, factor: tuple[int, int]) -> None:
        super().__init__()
        self.factor = factor
        self.projection = nn.Linear(width * factor[0] * factor[1], width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge tokens (B, H, W, D), H and W being multiples of the factor."""
        batch, height, width, channels = x.shape
        rows, columns = self.factor
        x = x.reshape(batch, height // rows, rows, width // columns, columns, channels)
        return self.projection(x.transpose(2, 3).flatten(3))


class TokenSplit(nn.Module):
    """The way back of `TokenMerge`, and a learnt mean with what was there before the merge."""

    def __init__(self, width: int, width_out: int, factor: tuple[int, int]) -> None:
        super().__init__()
        self.factor = factor
        self.projection = nn.Linear(width, width_out * factor[0] * factor[1], bias=False)
        self.share = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Split tokens (B, H, W, D) into the grid of `skip`, and add that by lerp(skip, split, share)."""
        batch, height, width, _ = x.shape
        rows, columns = self.factor
        x = self.projection(x).reshape(batch, height, width, rows, columns, -1)
        x = x.transpose(2, 3).reshape(batch, height * rows, width * columns, -1)
        return torch.lerp(skip, x, self.share.to(x.dtype))
