"""Layers of hierarchical backbones: merging and splitting tokens on a grid (B, H, W, D), norms, feed-forward.

Except for the position embedding, all of them are from Crowson et al., "Scalable High-Resolution Pixel-Space Image
Synthesis with Hourglass Diffusion Transformers", https://arxiv.org/abs/2401.11605.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.conditioning.electrodes import PlaceEmbedding, embedded_electrodes

__all__ = [
    "AdaRMSNorm",
    "GatedFeedForward",
    "MappingNetwork",
    "PositionEmbedding",
    "RMSNorm",
    "TokenMerge",
    "TokenSplit",
    "merge_tokens",
    "split_tokens",
]


class AdaRMSNorm(nn.Module):
    """x / rms(x) · (1 + linear(condition)), over the channels of (B, H, W, D); initially a plain RMS norm."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.scale = nn.Linear(condition_width, width, bias=False)
        nn.init.zeros_(self.scale.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Normalise x (B, H, W, D) with the condition (B, C)."""
        # at least float32: in bf16, 1 + scale rounds to 1 while the scale is small
        dtype = torch.promote_types(x.dtype, torch.float32)
        scale = 1 + self.scale(condition).to(dtype)[:, None, None]
        return (F.rms_norm(x.to(dtype), x.shape[-1:], eps=1e-6) * scale).to(x.dtype)


class RMSNorm(nn.RMSNorm):
    """x / rms(x) · weight, over the last axis, in the weight's type: torch has no fast kernel for two types."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class GatedFeedForward(nn.Module):
    """GEGLU (Shazeer, https://arxiv.org/abs/2002.05202): down(a · GELU(b)), with (a, b) = up(x); initially zero."""

    def __init__(self, width: int, hidden: int, dropout_rate: float = 0.0) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.dropout = nn.Dropout(dropout_rate)
        self.down = nn.Linear(hidden, width, bias=False)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) → (…, D)."""
        x, gate = self.up(x).chunk(2, dim=-1)
        return self.down(self.dropout(x * F.gelu(gate)))


class MappingNetwork(nn.Module):
    """From the sum of all embeddings (B, D) to the condition that modulates the norms (B, D)."""

    def __init__(self, width: int, depth: int, hidden: int, dropout_rate: float) -> None:
        super().__init__()
        self.input_norm = RMSNorm(width)
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(depth))
        self.layers = nn.ModuleList(GatedFeedForward(width, hidden, dropout_rate) for _ in range(depth))
        self.output_norm = RMSNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) → (B, D)."""
        x = self.input_norm(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + layer(norm(x))
        return self.output_norm(x)


class PositionEmbedding(nn.Module):
    """Add a learnt embedding of each token's row and column, or only of its row, or its place, if it is an electrode.

    Not in the paper: the statistics of photographs are alike everywhere, so relative positions are enough for them. But
    a row of a spectrogram is a frequency with its own mean level, which relative positions cannot express.
    """

    def __init__(
        self, grid: tuple[int, int], width: int, *, electrode_rows: bool, places: Tensor | None = None
    ) -> None:
        super().__init__()
        std = 0.5  # about the scale of embedded patches of noise
        self.rows = nn.Embedding(grid[0], width) if places is None else PlaceEmbedding(places, width, std=std)
        self.columns = None if electrode_rows else nn.Embedding(grid[1], width)
        for embedding in (self.rows, self.columns):
            if isinstance(embedding, nn.Embedding):
                nn.init.normal_(embedding.weight, std=std)

    def forward(self, x: Tensor, cond: Conditioning) -> Tensor:
        """Add the embedding to tokens (B, H, W, D)."""
        position = embedded_electrodes(self.rows, cond, x.shape[1])[..., None, :]
        if self.columns is not None:
            position = position + self.columns.weight
        return x + position.to(x.dtype)


class TokenMerge(nn.Module):
    """Merge each rectangle of `factor` = (rows, columns) tokens into one: concatenation, then a linear layer."""

    def __init__(self, width: int, width_out: int, factor: tuple[int, int]) -> None:
        super().__init__()
        self.factor = factor
        self.projection = nn.Linear(width * factor[0] * factor[1], width_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Merge tokens (B, H, W, D), where H and W are multiples of the factor."""
        return self.projection(merge_tokens(x, self.factor))


class TokenSplit(nn.Module):
    """Undo the size change of a `TokenMerge`, and average the result with the skip connection by a learnt weight."""

    def __init__(self, width: int, width_out: int, factor: tuple[int, int]) -> None:
        super().__init__()
        self.factor = factor
        self.projection = nn.Linear(width, width_out * factor[0] * factor[1], bias=False)
        self.share = nn.Parameter(torch.full((1,), 0.5))

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Split tokens (B, H, W, D) into the grid of `skip`, and return lerp(skip, split, share)."""
        x = split_tokens(self.projection(x), self.factor)
        return torch.lerp(skip, x.to(skip.dtype), self.share.to(skip.dtype))


def merge_tokens(x: Tensor, factor: tuple[int, int]) -> Tensor:
    """(B, H, W, D) → (B, H/rows, W/columns, rows·columns·D), concatenating each rectangle's tokens row by row."""
    batch, height, width, channels = x.shape
    rows, columns = factor
    x = x.reshape(batch, height // rows, rows, width // columns, columns, channels)
    return x.transpose(2, 3).flatten(3)


def split_tokens(x: Tensor, factor: tuple[int, int]) -> Tensor:
    """The inverse of `merge_tokens`: (B, H, W, rows·columns·D) → (B, H·rows, W·columns, D)."""
    batch, height, width, _ = x.shape
    rows, columns = factor
    x = x.reshape(batch, height, width, rows, columns, -1)
    return x.transpose(2, 3).reshape(batch, height * rows, width * columns, -1)
