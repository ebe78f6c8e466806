"""LocalMamba (Huang et al., https://arxiv.org/abs/2403.09338) as a U-shaped diffusion network.

Its blocks are those of VMamba (Liu et al., https://arxiv.org/abs/2401.10166): a selective scan of the tokens in several
orders, then a feed-forward. LocalMamba adds scans window by window, which keep neighbours close in the scan, and a gate
per order. Levels, skip connections, and norms modulated by time and conditions are those of the hourglass transformer.

Every block scans in four orders, as in the paper, where a search chose them. Here blocks cycle through all orders, so
that a level with two blocks uses all eight.
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

from signal_diffusion.config.types import LEVELS, TABLE, BelowOne, Layers, LayersOrNone, Side, SideOrNone, Width
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.models.hierarchy import Grid, Hierarchy, check_levels, check_mapping, mapping_network, of_level
from signal_diffusion.models.levels import AdaRMSNorm
from signal_diffusion.models.scan_orders import Direction, inverse_order, scan, scan_order, unscan
from signal_diffusion.models.selective_scan.operator import selective_scan, selective_scan_kernel
from signal_diffusion.models.selective_scan.tokens import scan_tokens

__all__ = ["LocalMamba", "LocalMambaArchitecture"]

SCANS_PER_BLOCK = 4
CHANNELS_PER_RANK = 16
SHORTEST_STEP, LONGEST_STEP = 1e-3, 0.1


@dataclass(frozen=True, kw_only=True, config=TABLE)
class LocalMambaArchitecture:
    """`[model.architecture]` of a `localmamba`. Levels go from the outermost, with most tokens, to the middle."""

    depths: Annotated[tuple[Layers, ...], LEVELS] = (2, 2, 6, 2)
    """Blocks of each level; all levels but the middle have as many again on the way up."""
    dims: Annotated[tuple[Annotated[Width, Field(ge=4)], ...], LEVELS] = (64, 128, 256, 512)
    """Channels of each level, 4 or more."""
    d_state: Width = 16
    """Size of the state of each channel of a scan, 1 or more."""
    ssm_ratio: Annotated[float, Field(ge=0.25, le=8)] = 1.0
    """Channels of a scan divided by those of its level, 0.25 to 8. VMamba's final networks have 1, half the scanning of
    LocalMamba's 2, and more blocks; ours has more blocks too, on the way up."""
    mlp_ratio: Annotated[float, Field(ge=0.25, le=64)] = 4.0
    """Hidden width of the feed-forward divided by the width of its level or of the mapping, 0.25 to 64."""
    ff_widths: Annotated[tuple[Width, ...], LEVELS] | None = None
    """Hidden width of the feed-forward of each level; absent = `dims` × `mlp_ratio`."""
    scan_directions: Annotated[tuple[Direction, ...], Field(min_length=1)] = (
        *("h", "h_flip", "v", "v_flip"),
        *("w2", "w2_flip", "w7", "w7_flip"),
    )
    """Orders of the scans: by rows (h), columns (v), windows of 2 × 2 or 7 × 7 tokens (w2, w7), or reversed (_flip). A
    block scans in four of them, or in all if there are fewer; the next block continues with the next four."""
    patch_size: tuple[SideOrNone, Side] = (2, 2)
    """Rows and columns of a patch, which becomes a token of the outermost level; doubled for every merge, they divide
    the example's. If rows are electrodes, [1, n] or, for tokens of all electrodes, [0, n], and only columns are
    merged."""
    mapping_depth: LayersOrNone = 0
    """Layers of the mapping network, from the embedding of time and conditions to what modulates the norms; 0 = only a
    SiLU."""
    mapping_width: Width | None = None
    """Channels of that embedding and of the mapping network; absent = those of the middle level."""
    mapping_ff_width: Width | None = None
    """Hidden width of the feed-forward layers of the mapping network; absent = its width × `mlp_ratio`."""
    mapping_dropout_rate: BelowOne | None = None
    """Dropout on the hidden layers of the mapping network, 0 ≤ p < 1; absent = `dropout_rate`."""
    dropout_rate: BelowOne = 0.0
    """Dropout on the outputs of scans and feed-forward, 0 ≤ p < 1."""
    dropout_rates: Annotated[tuple[BelowOne, ...], LEVELS] | None = None
    """The same for each level; absent = `dropout_rate` in all of them."""


class LocalMamba(Hierarchy):
    """A U-shaped network of two-dimensional selective scans. Before training, it predicts zero.

    With `electrode_rows`, a learnt embedding identifies each electrode, convolutions and merges are along time only,
    and no patch spans two electrodes. But scans visit electrodes in the order of the rows and remember recent ones
    best: unlike with attention, the prediction depends on the order of the electrodes.

    Raises
    ------
    UserError
        If depths and dims differ in number, or patches and merges do not divide the example or span electrodes.
    """

    def __init__(
        self,
        architecture: LocalMambaArchitecture,
        *,
        shape: tuple[int, int, int],
        attributes: Sequence[Attribute] = (),
        electrode_rows: bool = False,
        known: bool = False,
    ) -> None:
        dims, directions = architecture.dims, architecture.scan_directions
        self.check(architecture)
        mapping_width = architecture.mapping_width or dims[-1]

        def layer(level: int, grid: Grid, number: int) -> nn.Module:
            return _Block(architecture, level, grid, _directions_of_block(directions, number), electrode_rows)

        super().__init__(
            layer,
            depths=architecture.depths,
            widths=dims,
            condition_width=mapping_width,
            patch_size=architecture.patch_size,
            shape=shape,
            attributes=attributes,
            electrode_rows=electrode_rows,
            known=known,
        )
        self.mapping = mapping_network(architecture, mapping_width) if architecture.mapping_depth else nn.SiLU()
        self.output_norm = AdaRMSNorm(dims[0], mapping_width)
        self.output = nn.Linear(dims[0], shape[0] * math.prod(self.patch_size))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @staticmethod
    def check(architecture: LocalMambaArchitecture) -> None:
        """See `Denoiser.check`."""
        check_levels(
            depths=architecture.depths,
            dims=architecture.dims,
            ff_widths=architecture.ff_widths,
            dropout_rates=architecture.dropout_rates,
        )
        check_mapping(architecture.mapping_depth, architecture.mapping_ff_width, architecture.mapping_dropout_rate)

    @property
    def kernels(self) -> dict[str, str]:
        """The backend of the selective scans."""
        return {"selective scan": selective_scan_kernel(self.output.weight.device)}

    def head(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """The values of each patch."""
        return self.output(self.output_norm(tokens, condition))


def _directions_of_block(directions: tuple[Direction, ...], number: int) -> list[Direction]:
    """The directions of block `number` of a level, cycling through all."""
    count = min(SCANS_PER_BLOCK, len(directions))
    return [directions[(number * count + i) % len(directions)] for i in range(count)]


class _Block(nn.Module):
    """x += scan(norm(x)), x += feed-forward(norm(x)); initially both add zero."""

    def __init__(
        self,
        architecture: LocalMambaArchitecture,
        level: int,
        grid: Grid,
        directions: Sequence[Direction],
        electrode_rows: bool,
    ) -> None:
        super().__init__()
        width, condition_width = architecture.dims[level], architecture.mapping_width or architecture.dims[-1]
        hidden = of_level(architecture.ff_widths, level, round(width * architecture.mlp_ratio))
        self.scan_norm = AdaRMSNorm(width, condition_width)
        self.ss2d = _SS2D(
            width,
            round(width * architecture.ssm_ratio),
            architecture.d_state,
            torch.stack([scan_order(direction, *grid) for direction in directions]),
            kernel_size=(1, 3) if electrode_rows else (3, 3),
        )
        self.mlp_norm = AdaRMSNorm(width, condition_width)
        last = nn.Linear(hidden, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), last)
        self.dropout = nn.Dropout(of_level(architecture.dropout_rates, level, architecture.dropout_rate))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        x = x + self.dropout(self.ss2d(self.scan_norm(x, condition)))
        return x + self.dropout(self.mlp(self.mlp_norm(x, condition)))


class _SS2D(nn.Module):
    """A selective scan in two dimensions: one-dimensional scans in K orders, each with its own parameters, summed.

    The steps and decays start as Mamba's: softplus(dt_bias) from 0.001 to 0.1, log-uniform, and A from −1 to −N.
    """

    no_weight_decay = ("a_log",)

    order: Tensor
    inverse: Tensor

    def __init__(self, width: int, inner: int, d_state: int, order: Tensor, *, kernel_size: tuple[int, int]) -> None:
        super().__init__()
        num_orders, rank = len(order), math.ceil(width / CHANNELS_PER_RANK)
        self.d_state, self.rank = d_state, rank
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse", inverse_order(order), persistent=False)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv = nn.Conv2d(inner, inner, kernel_size, padding="same", groups=inner)
        self.x_proj = nn.Parameter(torch.empty(num_orders, rank + 2 * d_state, inner))
        self.dt_proj = nn.Parameter(torch.empty(num_orders, inner, rank))
        self.dt_bias = nn.Parameter(torch.empty(num_orders * inner))
        self.a_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(num_orders * inner, 1))
        self.d = nn.Parameter(torch.ones(num_orders * inner))
        self.gate = _ChannelGate(inner)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)
        self._reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, D) → (B, H, W, D)."""
        height, width = x.shape[1:3]
        x, z = self.in_proj(x).chunk(2, dim=-1)  # (B, H, W, E) each
        x = F.silu(self.conv(x.permute(0, 3, 1, 2))).flatten(2)  # (B, E, L)
        in_place = selective_scan_kernel(x.device, x.dtype) == "numba"
        y = self._scanned_in_place(x.mT) if in_place else self._scanned(x).mT
        return self.out_proj(self.out_norm(y.unflatten(1, (height, width))) * F.silu(z))

    def _scanned(self, x: Tensor) -> Tensor:
        """(B, E, L) → (B, E, L)."""
        u = scan(x, self.order, self.inverse)  # (B, K, E, L)
        dt, b, c = (self.x_proj @ u).split([self.rank, self.d_state, self.d_state], dim=2)
        delta = self.dt_proj @ dt  # (B, K, E, L)
        a = -self.a_log.exp()  # float32, like D and the bias: autocast only converts matrix products
        y = selective_scan(u.flatten(1, 2), delta.flatten(1, 2), a, b, c, self.d, self.dt_bias).view_as(u)
        return unscan(y * self.gate(y.mean(-1))[..., None], self.order, self.inverse)

    def _scanned_in_place(self, x: Tensor) -> Tensor:
        """The same for tokens (B, L, E), without copying them into each order."""
        projected = F.linear(x, self.x_proj.flatten(0, 1)).unflatten(-1, self.x_proj.shape[:2])  # (B, L, K, …)
        dt, b, c = projected.split([self.rank, self.d_state, self.d_state], dim=-1)
        delta = torch.einsum("blkr,ker->kble", dt, self.dt_proj)
        a = -self.a_log.exp()
        y = scan_tokens(x[None], delta, a, b, c, self.d, self.dt_bias, self.order)  # (K, B, L, E)
        gate = self.gate(y.mean(2).transpose(0, 1)).transpose(0, 1)  # (K, B, E)
        return (y * gate[:, :, None]).sum(0)

    def _reset_parameters(self) -> None:
        nn.init.uniform_(self.x_proj, -(self.x_proj.shape[-1] ** -0.5), self.x_proj.shape[-1] ** -0.5)
        nn.init.uniform_(self.dt_proj, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            self.dt_bias.uniform_(math.log(SHORTEST_STEP), math.log(LONGEST_STEP)).exp_()
            self.dt_bias.expm1_().log_()  # the inverse of softplus
        nn.init.zeros_(self.out_proj.weight)


class _ChannelGate(nn.Module):
    """Weights in (0, 1) of the channels (…, E) of each scan, from their means over the tokens.

    This is LocalMamba's channel attention; the authors' own networks, too, omit the paper's spatial attention.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, width // 8)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.Sigmoid())

    def forward(self, means: Tensor) -> Tensor:
        """(B, K, E) → (B, K, E)."""
        return self.layers(self.norm(means))
