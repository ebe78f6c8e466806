"""The U-shape of the Hourglass Diffusion Transformer (Crowson et al., https://arxiv.org/abs/2401.11605), for any layer.

Tokens pass through the levels from the finest grid to the coarsest and back, with skip connections. Every layer
receives the embedding of time and conditions.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Protocol, TypeVar

from torch import Tensor, nn

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Attribute, Conditioning
from signal_diffusion.models.conditioning.embeddings import ConditioningEmbedding, TimestepEmbedding
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.levels import MappingNetwork, PositionEmbedding, TokenMerge, TokenSplit, split_tokens

__all__ = [
    "Grid",
    "Hierarchy",
    "check_levels",
    "check_mapping",
    "mapping_network",
    "of_level",
    "patch_of",
    "token_grids",
]

T = TypeVar("T")

Grid = tuple[int, int]
"""Rows and columns of tokens."""


class MappingKeys(Protocol):
    """The keys of an architecture that a mapping network is built by."""

    @property
    def mlp_ratio(self) -> float: ...
    @property
    def dropout_rate(self) -> float: ...
    @property
    def mapping_depth(self) -> int: ...
    @property
    def mapping_ff_width(self) -> int | None: ...
    @property
    def mapping_dropout_rate(self) -> float | None: ...


class Hierarchy(Denoiser):
    """A U-shaped network of levels, listed from the outermost, which has the most tokens, to the middle.

    A subclass defines the layers, `mapping`, `layer_inputs` and `head`.

    Parameters
    ----------
    layer : callable
        `(level, grid, number) -> module`; in a level, the numbers on the way up continue those on the way down.
    depths, widths
        Layers (in one direction) and channels of each level.
    condition_width
        Channels of the embeddings of time and conditions.
    """

    condition_layers = ("norm.scale",)

    mapping: nn.Module
    """Maps the sum of those embeddings to the condition that layers receive, both (B, condition width)."""

    def __init__(
        self,
        layer: Callable[[int, Grid, int], nn.Module],
        *,
        depths: Sequence[int],
        widths: Sequence[int],
        condition_width: int,
        patch_size: tuple[int, int],
        shape: tuple[int, int, int],
        attributes: Sequence[Attribute],
        electrode_rows: bool,
        known: bool,
        places: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.takes_known = known
        factor = (1, 2) if electrode_rows else (2, 2)
        pairs = list(pairwise(widths))
        self.patch_size = patch_size = patch_of(patch_size, shape)
        self.grids = grids = token_grids(shape, patch_size, electrode_rows=electrode_rows, num_levels=len(depths))
        self.num_tokens = math.prod(grids[0])

        def layers(level: int, first: int = 0) -> nn.ModuleList:
            return nn.ModuleList(layer(level, grids[level], first + i) for i in range(depths[level]))

        self.time_embedding = TimestepEmbedding(condition_width)
        self.conditioning = ConditioningEmbedding(attributes, condition_width) if attributes else None
        self.patch_embedding = TokenMerge((1 + known) * shape[0], widths[0], patch_size)
        self.places = PositionEmbedding(grids[0], widths[0], electrode_rows=electrode_rows, places=places)
        self.down = nn.ModuleList(layers(level) for level in range(len(pairs)))
        self.merges = nn.ModuleList(TokenMerge(outer, inner, factor) for outer, inner in pairs)
        self.middle = layers(len(pairs))
        self.splits = nn.ModuleList(TokenSplit(inner, outer, factor) for outer, inner in pairs)
        self.up = nn.ModuleList(layers(level, first=depths[level]) for level in range(len(pairs)))

    @property
    def blocks(self) -> nn.ModuleList:
        """The layers of all levels, in the order in which they are used."""
        levels = [*self.down, self.middle, *reversed(list(self.up))]
        return nn.ModuleList(chain.from_iterable(level.children() for level in levels))

    def layer_inputs(self, level: int) -> tuple[Tensor, ...]:
        """What the layers of a level receive in addition to tokens and condition; by default nothing."""
        return ()

    @abstractmethod
    def head(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """The values of each patch, (B, H/ph, W/pw, ph·pw·C), from the tokens of the outermost level."""

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction for x (B, C, H, W) at the times t (B,)."""
        condition = self.time_embedding(t)  # (B, condition width)
        if self.conditioning is not None:
            condition = condition + self.conditioning(cond)
        condition = self.mapping(condition)
        inputs = [self.layer_inputs(level) for level in range(len(self.grids))]

        # Under autocast the residual stream is deliberately bf16, not fp32 as in dit: merges are linear layers and
        # would round it anyway, and the finest grids cost memory.
        patches = self.patch_embedding(self.with_known(x, cond).movedim(1, -1))  # (B, H/ph, W/pw, D)
        tokens = self.places(patches, cond)
        skips = []
        for level, layers in enumerate(self.down):
            skips.append(self._run(layers, tokens, condition, *inputs[level]))
            tokens = self.merges[level](skips[-1])
        tokens = self._run(self.middle, tokens, condition, *inputs[-1])
        for level, layers in reversed(list(enumerate(self.up))):
            tokens = self._run(layers, self.splits[level](tokens, skips[level]), condition, *inputs[level])
        return split_tokens(self.head(tokens, condition), self.patch_size).movedim(-1, 1)

    def _run(self, layers: nn.Module, tokens: Tensor, *inputs: Tensor) -> Tensor:
        for layer in layers.children():
            tokens = self.apply_block(layer, tokens, *inputs)
        return tokens


def check_levels(**values: Sequence[object] | None) -> None:
    """Raise a `UserError` if keys of an architecture have values for different numbers of levels; None = absent."""
    numbers = {name: len(each) for name, each in values.items() if each is not None}
    if len({*numbers.values()}) > 1:
        found = ", ".join(f"{name} {number}" for name, number in numbers.items())
        raise UserError(f"numbers of levels differ: {found}; expected the same number in each")


def of_level(values: Sequence[T] | None, level: int, default: T) -> T:
    """The value of a level, from a key of an architecture that may be absent."""
    return default if values is None else values[level]


def check_mapping(mapping_depth: int, mapping_ff_width: int | None, mapping_dropout_rate: float | None) -> None:
    """Raise a `UserError` if keys are for layers of a mapping network that has none."""
    given = {"mapping_ff_width": mapping_ff_width, "mapping_dropout_rate": mapping_dropout_rate}
    if found := [name for name, value in given.items() if value is not None and not mapping_depth]:
        raise UserError(f"{found[0]} has no effect, because mapping_depth = 0; set mapping_depth, or remove it")


def mapping_network(keys: MappingKeys, width: int) -> MappingNetwork:
    """The mapping network of an architecture; absent keys are `mlp_ratio` times the width, and `dropout_rate`."""
    dropout = keys.dropout_rate if keys.mapping_dropout_rate is None else keys.mapping_dropout_rate
    hidden = keys.mapping_ff_width or round(width * keys.mlp_ratio)
    return MappingNetwork(width, keys.mapping_depth, hidden, dropout)


def patch_of(patch_size: tuple[int, int], shape: tuple[int, int, int]) -> tuple[int, int]:
    """Rows and columns of a patch of examples of `shape` (C, H, W), where 0 rows are all of them."""
    return patch_size[0] or shape[1], patch_size[1]


def token_grids(
    shape: tuple[int, int, int], patch_size: tuple[int, int], *, electrode_rows: bool, num_levels: int = 1
) -> list[Grid]:
    """Rows and columns of tokens in each level, for examples of `shape` (C, H, W); each merge halves them.

    Raises
    ------
    UserError
        If patches and merges do not divide the example, or a patch spans some electrodes, neither one nor all.
    """
    _, height, width = shape
    rows, columns = patch_size
    if electrode_rows and rows not in (1, height):
        raise UserError(
            f"patch_size {[rows, columns]} spans {rows} of {height} electrodes, which have no order: expected one or "
            f"all; use patch_size = [1, {columns}] or [0, {columns}]"
        )
    steps = [(rows if electrode_rows else rows * 2**level, columns * 2**level) for level in range(num_levels)]
    if height % steps[-1][0] or width % steps[-1][1]:
        merges = f" with the {num_levels - 1} merges of {num_levels} levels" if num_levels > 1 else ""
        raise UserError(
            f"patch_size {[rows, columns]}{merges} does not divide examples of {height} × {width}: "
            f"expected sizes that are multiples of {steps[-1][0]} × {steps[-1][1]}"
        )
    return [(height // down, width // across) for down, across in steps]
