"""The diffusion transformer with adaLN-zero (Peebles & Xie, https://arxiv.org/abs/2212.09748).

Ours also takes examples and patches that are not square, and applies a layer norm to queries and keys (Dehghani et al.,
https://arxiv.org/abs/2302.05442), which keeps attention bounded in bf16. The feed-forward is the paper's GELU: two
matrix products and one pass over the hidden layer, where SwiGLU has three and two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from signal_diffusion.config.types import TABLE, Layers, Side, SideOrNone, Width
from signal_diffusion.errors import UserError
from signal_diffusion.models.attention.full import attention, attention_kernel
from signal_diffusion.models.conditioning.attributes import Attribute, Conditioning
from signal_diffusion.models.conditioning.electrodes import PlaceEmbedding, embedded_electrodes
from signal_diffusion.models.conditioning.embeddings import ConditioningEmbedding, TimestepEmbedding
from signal_diffusion.models.denoiser import Denoiser, check_heads
from signal_diffusion.models.hierarchy import patch_of, token_grids
from signal_diffusion.models.patches import Patches

__all__ = ["DiT", "DiTArchitecture"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class DiTArchitecture:
    """`[model.architecture]` of a `dit`."""

    num_layers: Layers = 12
    """Transformer blocks, 1 or more."""
    num_attention_heads: Width = 16
    """Attention heads, 1 or more; the width is heads × head dimension, a multiple of 4."""
    attention_head_dim: Width = 72
    """Channels of each head, 1 or more."""
    patch_size: tuple[SideOrNone, Side] = (4, 4)
    """Rows and columns of a patch, which becomes a token; they divide the example's. If rows are electrodes: [1, n], a
    token of each electrode, or [0, n], tokens of all electrodes, many times fewer."""
    patch_overlap: bool = False
    """Whether a patch also spans half of the columns of both its neighbours, and outputs are cross-faded there. For
    signals: otherwise they jump at the borders of patches."""
    input_power: bool = False
    """Whether the embedding of time is joined by the power of the input in each channel of the patch embedding. For
    signals, where the power of rhythms tells one window from another: tokens are normalised, and tell little of it."""
    mlp_ratio: Annotated[float, Field(ge=0.25, le=64)] = 4.0
    """Hidden width of the feed-forward divided by the model's width, 0.25 to 64."""
    dropout_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the outputs of attention and feed-forward, 0 ≤ p < 1."""


class DiT(Denoiser):
    """A diffusion transformer. Before training, it predicts zero.

    With `electrode_rows`, a learnt embedding of each electrode, or of its place if `places` are given, replaces the
    sines of its row, because electrodes have no order.

    Raises
    ------
    UserError
        If patches do not divide the example or span electrodes, if those that overlap have one column, or if heads ×
        head dimension is not a multiple of 4.
    """

    lora_targets = ("qkv", "projection", "mlp.0", "mlp.2")
    condition_layers = ("modulation",)

    positions: Tensor

    def __init__(
        self,
        architecture: DiTArchitecture,
        *,
        shape: tuple[int, int, int],
        attributes: Sequence[Attribute] = (),
        electrode_rows: bool = False,
        known: bool = False,
        places: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.check(architecture)
        self.takes_known = known
        width = _width(architecture)
        patch_size = patch_of(architecture.patch_size, shape)
        if architecture.patch_overlap and patch_size[1] < 2:
            raise UserError(f"patch_overlap: patches of {patch_size[1]} column have no half to share; use false")
        (grid,) = token_grids(shape, patch_size, electrode_rows=electrode_rows)
        self.num_tokens = math.prod(grid)
        self.patches = Patches(patch_size, overlap=architecture.patch_overlap)
        token_size = shape[0] * self.patches.num_values
        self.patch_embedding = nn.Linear((1 + known) * token_size, width)
        self.register_buffer("positions", _positions(grid, width, electrode_rows=electrode_rows), persistent=False)
        self.electrodes: nn.Embedding | PlaceEmbedding | None = None
        if electrode_rows:
            self.electrodes = nn.Embedding(grid[0], width) if places is None else PlaceEmbedding(places, width)
        self.time_embedding = TimestepEmbedding(width)
        self.conditioning = ConditioningEmbedding(attributes, width) if attributes else None
        self.layers = nn.ModuleList(_Block(architecture, width) for _ in range(architecture.num_layers))
        self.power = nn.Linear(width, width) if architecture.input_power else None
        self.modulation = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, token_size)
        self._reset_parameters()

    @staticmethod
    def check(architecture: DiTArchitecture) -> None:
        """See `Denoiser.check`."""
        check_heads(architecture.num_attention_heads, architecture.attention_head_dim)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.layers

    @property
    def kernels(self) -> dict[str, str]:
        """The backend of attention."""
        return {"attention": attention_kernel()}

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction for x (B, C, H, W) at the times t (B,)."""
        condition = self.time_embedding(t)  # (B, D)
        if self.conditioning is not None:
            condition = condition + self.conditioning(cond)
        tokens = self.patch_embedding(self.patches.cut(self.with_known(x, cond)))  # (B, N, D)
        if self.power is not None:
            condition = condition + self.power(_log_power(tokens))
        condition = F.silu(condition)
        tokens = tokens + self._position_embedding(cond, num_rows=x.shape[2])
        for block in self.layers:
            tokens = self.apply_block(block, tokens, condition)
        shift, scale = self.modulation(condition).float()[:, None].chunk(2, dim=-1)
        return self.patches.join(self.output(_modulated(tokens, shift, scale)), x.shape)

    def _position_embedding(self, cond: Conditioning, num_rows: int) -> Tensor:
        """The embedding of each token's position or electrode, (N, D) or (B, N, D)."""
        if self.electrodes is None:
            return self.positions
        rows = embedded_electrodes(self.electrodes, cond, num_rows)
        return (self.positions + rows[..., None, :]).flatten(-3, -2)

    def _reset_parameters(self) -> None:
        for name, module in self.named_modules():
            if name.endswith(("modulation", "output")) and isinstance(module, nn.Linear):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
            elif name.startswith(("layers", "patch_embedding")) and isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)


class _Block(nn.Module):
    """x += gate·attention(modulated x), x += gate·feed-forward(modulated x); the gates are initially zero."""

    def __init__(self, architecture: DiTArchitecture, width: int) -> None:
        super().__init__()
        hidden = round(width * architecture.mlp_ratio)
        self.head_dim = architecture.attention_head_dim
        self.modulation = nn.Linear(width, 6 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.query_norm = nn.Parameter(torch.ones(self.head_dim))
        self.key_norm = nn.Parameter(torch.ones(self.head_dim))
        self.projection = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))
        self.dropout = nn.Dropout(architecture.dropout_rate)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        # float32, because in bf16 1 + scale rounds to 1 while the scale is small
        modulation = self.modulation(condition).float()[:, None]  # (B, 1, 6D)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=-1)
        x = torch.addcmul(x, gate_1, self.dropout(self._attention(_modulated(x, shift_1, scale_1))))
        return torch.addcmul(x, gate_2, self.dropout(self.mlp(_modulated(x, shift_2, scale_2))))

    def _attention(self, x: Tensor) -> Tensor:
        # split before transposing: the gradients are then joined in the layout of the projection's output
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, self.head_dim)).unbind(2)  # (B, N, heads, d)
        q, k = _head_norm(q, self.query_norm), _head_norm(k, self.key_norm)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        return self.projection(attention(q, k, v).transpose(1, 2).flatten(2))


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


def _log_power(tokens: Tensor) -> Tensor:
    """The natural logarithm of the mean square over tokens (B, N, D): (B, D), in float32."""
    return tokens.float().square().mean(dim=1).add(1e-4).log()  # −9.2 where all is zero


def _head_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weight, eps=1e-6)


def _width(architecture: DiTArchitecture) -> int:
    return architecture.num_attention_heads * architecture.attention_head_dim


def _positions(grid: tuple[int, int], width: int, *, electrode_rows: bool) -> Tensor:
    """Sines and cosines of the row in one half of the channels, of the column in the other, (N, width).

    With `electrode_rows`, only of the column, and for one row: (columns, width).
    """
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 4) / (width // 4))
    grid = (1, grid[1]) if electrode_rows else grid
    rows, columns = (torch.arange(size)[:, None] * frequencies for size in grid)
    rows = torch.cat([rows.sin(), rows.cos()], dim=1)[:, None].expand(-1, grid[1], -1)
    columns = torch.cat([columns.sin(), columns.cos()], dim=1)[None].expand(grid[0], -1, -1)
    if electrode_rows:
        rows = torch.zeros_like(rows)
    return torch.cat([rows, columns], dim=2).flatten(0, 1)
