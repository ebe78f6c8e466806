"""The Hourglass Diffusion Transformer (Crowson et al., https://arxiv.org/abs/2401.11605).

Transformer layers on a hierarchy of grids: on fine grids tokens attend to their neighbours, and in the middle to all
tokens, so the cost grows linearly with the size of an example. With the same weights, and without the position
embedding (see `PositionEmbedding`), it computes the same as `image_transformer_v2` of k-diffusion, the authors' own
implementation; tests/models/test_hourglass_as_published.py compares them if their source is on the path.

Ours also takes patches that are not square, and rows that are electrodes. Electrodes have no order, so an embedding
of each, or of its place, identifies them instead of a rotation, every token attends to all of them, and only time is
merged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from signal_diffusion.config.types import LEVELS, TABLE, BelowOne, Layers, LayersOrNone, Side, SideOrNone, Width
from signal_diffusion.errors import UserError
from signal_diffusion.models.attention.full import attention, attention_kernel
from signal_diffusion.models.attention.neighbourhood import neighbourhood_attention, neighbourhood_kernel
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.models.hierarchy import Grid, Hierarchy, check_levels, check_mapping, mapping_network, of_level
from signal_diffusion.models.levels import AdaRMSNorm, GatedFeedForward, RMSNorm

__all__ = ["Hourglass", "HourglassArchitecture"]

ALL_ROWS = 2**20
"""A neighbourhood of more rows than an example has: all of them, however many electrodes there are."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class HourglassArchitecture:
    """`[model.architecture]` of an `hourglass`. Levels go from the outermost, with most tokens, to the middle."""

    depths: Annotated[tuple[Layers, ...], LEVELS] = (2, 2, 3)
    """Layers of each level; all levels but the middle have as many again on the way up."""
    widths: Annotated[tuple[Width, ...], LEVELS] = (64, 128, 256)
    """Channels of each level, multiples of `attention_head_dim`."""
    kernel_sizes: Annotated[tuple[SideOrNone, ...], LEVELS] = (7, 7, 0)
    """Rows and columns of tokens that a token attends to in each level, odd and at least 3; 0 = all. If rows are
    electrodes, only columns."""
    attention_head_dim: Annotated[Width, Field(ge=8, multiple_of=8)] = 64
    """Channels of each attention head, a multiple of 8."""
    patch_size: tuple[SideOrNone, Side] = (2, 2)
    """Rows and columns of a patch, which becomes a token of the outermost level; doubled for every merge, they divide
    the example's. If rows are electrodes, [1, n] or, for tokens of all electrodes, [0, n], and only columns are
    merged."""
    mlp_ratio: Annotated[float, Field(ge=0.25, le=64)] = 3.0
    """Hidden width of the feed-forward layers divided by the width of their level or of the mapping, 0.25 to 64."""
    ff_widths: Annotated[tuple[Width, ...], LEVELS] | None = None
    """Hidden width of the feed-forward layers of each level; absent = `widths` × `mlp_ratio`."""
    mapping_depth: LayersOrNone = 2
    """Layers of the mapping network, from the embedding of time and conditions to what modulates the norms, 0 or
    more."""
    mapping_width: Width = 256
    """Channels of the mapping network."""
    mapping_ff_width: Width | None = None
    """Hidden width of the feed-forward layers of the mapping network; absent = `mapping_width` × `mlp_ratio`."""
    mapping_dropout_rate: BelowOne | None = None
    """Dropout on the hidden layers of the mapping network, 0 ≤ p < 1; absent = `dropout_rate`."""
    dropout_rate: BelowOne = 0.0
    """Dropout on the outputs of attention and of the hidden feed-forward layers, 0 ≤ p < 1."""
    dropout_rates: Annotated[tuple[BelowOne, ...], LEVELS] | None = None
    """The same for each level; absent = `dropout_rate` in all of them."""


class Hourglass(Hierarchy):
    """A hierarchical transformer. Before training, it predicts zero."""

    lora_targets = ("qkv", "attention_output", "feed_forward.up", "feed_forward.down")

    def __init__(
        self,
        architecture: HourglassArchitecture,
        *,
        shape: tuple[int, int, int],
        attributes: Sequence[Attribute] = (),
        electrode_rows: bool = False,
        known: bool = False,
        places: Tensor | None = None,
    ) -> None:
        self.check(architecture)
        widths, mapping_width = architecture.widths, architecture.mapping_width

        def kernel(level: int) -> tuple[int, int] | None:
            columns = architecture.kernel_sizes[level]
            return (ALL_ROWS if electrode_rows else columns, columns) if columns else None

        def layer(level: int, _: Grid, __: int) -> nn.Module:
            return _Layer(architecture, level, kernel(level))

        super().__init__(
            layer,
            depths=architecture.depths,
            widths=widths,
            condition_width=mapping_width,
            patch_size=architecture.patch_size,
            shape=shape,
            attributes=attributes,
            electrode_rows=electrode_rows,
            known=known,
            places=places,
        )
        self.neighbourhoods = [(grid, kernel(level)) for level, grid in enumerate(self.grids)]
        self.head_dim = architecture.attention_head_dim
        self.mapping = mapping_network(architecture, mapping_width)
        self.rotations = nn.ModuleList(
            _Rotation(architecture, width, grid, shape, electrode_rows)
            for width, grid in zip(widths, self.grids, strict=True)
        )
        self.output_norm = RMSNorm(widths[0])
        self.output = nn.Linear(widths[0], shape[0] * math.prod(self.patch_size), bias=False)
        nn.init.zeros_(self.output.weight)

    @staticmethod
    def check(architecture: HourglassArchitecture) -> None:
        """See `Denoiser.check`."""
        depths, widths, kernel_sizes = architecture.depths, architecture.widths, architecture.kernel_sizes
        check_levels(
            depths=depths,
            widths=widths,
            kernel_sizes=kernel_sizes,
            ff_widths=architecture.ff_widths,
            dropout_rates=architecture.dropout_rates,
        )
        check_mapping(architecture.mapping_depth, architecture.mapping_ff_width, architecture.mapping_dropout_rate)
        if wrong := [width for width in widths if width % architecture.attention_head_dim]:
            raise UserError(
                f"widths has {wrong[0]}: expected multiples of attention_head_dim = {architecture.attention_head_dim}"
            )
        if wrong := [kernel for kernel in kernel_sizes if kernel and (kernel < 3 or kernel % 2 == 0)]:
            raise UserError(
                f"kernel_sizes has {wrong[0]}: expected odd numbers from 3, or 0 for attention to all tokens"
            )

    @property
    def kernels(self) -> dict[str, str]:
        """The backends of attention and, if a level uses it, of neighbourhood attention."""
        device = self.output.weight.device
        local = [(grid, kernel) for grid, kernel in self.neighbourhoods if kernel]
        names = dict.fromkeys(neighbourhood_kernel(device, grid, kernel, self.head_dim) for grid, kernel in local)
        return {"attention": attention_kernel()} | ({"neighbourhood attention": " and ".join(names)} if names else {})

    def layer_inputs(self, level: int) -> tuple[Tensor, ...]:
        """The rotations of the tokens of a level."""
        return (self.rotations[level](),)

    def head(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """The values of each patch."""
        return self.output(self.output_norm(tokens))


class _Layer(nn.Module):
    """x += attention(norm(x)), x += feed-forward(norm(x)); initially both add zero.

    Attention scores are cosines (Henry et al., https://arxiv.org/abs/2010.04245) times a learnt scale per head.
    """

    def __init__(self, architecture: HourglassArchitecture, level: int, kernel: tuple[int, int] | None) -> None:
        super().__init__()
        width = architecture.widths[level]
        hidden = of_level(architecture.ff_widths, level, round(width * architecture.mlp_ratio))
        dropout_rate = of_level(architecture.dropout_rates, level, architecture.dropout_rate)
        self.head_dim, self.kernel = architecture.attention_head_dim, kernel
        self.attention_norm = AdaRMSNorm(width, architecture.mapping_width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        # the logarithm, because a scale that training makes negative would have no square root
        self.log_scale = nn.Parameter(torch.full((width // self.head_dim,), math.log(10.0)))
        self.dropout = nn.Dropout(dropout_rate)
        self.attention_output = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.attention_output.weight)
        self.feed_forward_norm = AdaRMSNorm(width, architecture.mapping_width)
        self.feed_forward = GatedFeedForward(width, hidden, dropout_rate)

    def forward(self, x: Tensor, condition: Tensor, rotation: Tensor) -> Tensor:
        x = x + self._attention(self.attention_norm(x, condition), rotation)
        return x + self.feed_forward(self.feed_forward_norm(x, condition))

    def _attention(self, x: Tensor, rotation: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, -1, self.head_dim))  # (B, H, W, 3, heads, d)
        dtype = torch.promote_types(qkv.dtype, torch.float32)
        qk = _rotated(_normalised(qkv[..., :2, :, :].to(dtype), self.log_scale), rotation).to(qkv.dtype)
        q, k = qk.permute(3, 0, 4, 1, 2, 5)  # (B, heads, H, W, d) each
        v = qkv[..., 2, :, :].permute(0, 3, 1, 2, 4)
        if self.kernel is None:
            mixed = attention(*(part.flatten(2, 3) for part in (q, k, v)), scale=1.0).unflatten(2, x.shape[1:3])
        else:
            mixed = neighbourhood_attention(q, k, v, self.kernel, scale=1.0)
        return self.attention_output(self.dropout(mixed.permute(0, 2, 3, 1, 4).flatten(3)))


def _normalised(qk: Tensor, log_scale: Tensor) -> Tensor:
    """Queries or keys (…, heads, d) with length √scale, so that their products are scale · cosine."""
    length = (qk.square().sum(-1, keepdim=True) + 1e-6).rsqrt() * (0.5 * log_scale).exp()[:, None]
    return qk * length


def _rotated(qk: Tensor, rotation: Tensor) -> Tensor:
    """qk (B, H, W, 2, heads, d) with pairs of the first channels rotated by the angles of their token."""
    cos, sin = rotation[:, :, :, None]  # (H, W, 1, heads, pairs)
    num_pairs = rotation.shape[-1]
    a, b, rest = qk.split([num_pairs, num_pairs, qk.shape[-1] - 2 * num_pairs], dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


class _Rotation(nn.Module):
    """Axial rotary embeddings (§ 4.1 of the paper): cosines and sines (2, H, W, heads, pairs) for the grid of a level.

    The longest ordered axis of an example spans [−1, 1] and the other in proportion, so that the same distance in
    pixels rotates by the same angle along both, whatever the aspect ratio. Half of a head's channels are rotated, in
    equal parts by row and by column; if rows are electrodes, only by column. Frequencies increase geometrically from π
    to 10π, over the pairs and then the heads.
    """

    table: Tensor

    def __init__(
        self,
        architecture: HourglassArchitecture,
        width: int,
        grid: Grid,
        shape: tuple[int, int, int],
        electrode_rows: bool,
    ) -> None:
        super().__init__()
        num_heads = width // architecture.attention_head_dim
        longest = shape[2] if electrode_rows else max(shape[1:])
        num_pairs = architecture.attention_head_dim // (4 if electrode_rows else 8)  # of an axis
        frequencies = math.pi * 10 ** (torch.arange(num_heads * num_pairs) / (num_heads * num_pairs))
        frequencies = frequencies.view(num_pairs, num_heads).T
        rows, columns = (
            ((2 * torch.arange(num) + 1) / num - 1)[:, None, None] * (size / longest) * frequencies
            for num, size in zip(grid, shape[1:], strict=True)
        )
        angles = columns[None]
        if not electrode_rows:
            parts = rows[:, None].expand(-1, grid[1], -1, -1), columns[None].expand(grid[0], -1, -1, -1)
            angles = torch.cat(parts, dim=-1)
        self.register_buffer("table", torch.stack([angles.cos(), angles.sin()]), persistent=False)

    def forward(self) -> Tensor:
        return self.table
