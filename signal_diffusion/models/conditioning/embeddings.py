"""Layers that embed the time and the attributes of an example; see `attributes` for the nulls."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Conditioning, Numeric

__all__ = ["ConditioningEmbedding", "HasCaptions", "TimestepEmbedding", "embedding_mlp"]


class HasCaptions(ABC):
    """A module with a table of caption embeddings that is not part of its state dict."""

    @abstractmethod
    def set_captions(self, caption: Caption) -> None:
        """Replace the table by the embeddings of these captions, from the same text encoder."""


class ConditioningEmbedding(nn.Module):
    """The sum of the embeddings of the attributes, (B, width)."""

    def __init__(self, attributes: Sequence[Attribute], width: int) -> None:
        super().__init__()
        # a list, because a ModuleDict cannot have keys such as "type" or "training"
        self.names = [attribute.name for attribute in attributes]
        self.embeddings = nn.ModuleList(_embedding(attribute, width) for attribute in attributes)

    def forward(self, cond: Conditioning) -> Tensor:
        """Embed `cond`, which must have every attribute of the model and may have more."""
        return torch.stack(self._parts(cond)).sum(0)

    def tokens(self, cond: Conditioning) -> Tensor:
        """The embeddings before they are summed, (B, attributes, width)."""
        return torch.stack(self._parts(cond), dim=1)

    def _parts(self, cond: Conditioning) -> list[Tensor]:
        if missing := [name for name in self.names if name not in cond.attributes]:
            raise ValueError(f"conditions lack {', '.join(missing)}; found: {', '.join(cond.attributes) or 'none'}")
        return [embed(cond.attributes[name]) for name, embed in zip(self.names, self.embeddings, strict=True)]


class TimestepEmbedding(nn.Module):
    """An embedding of times: sines and cosines of 1000·t, then an MLP, (B,) → (B, width)."""

    frequencies: Tensor

    def __init__(self, width: int, *, num_features: int = 256) -> None:
        super().__init__()
        frequencies = torch.exp(-math.log(10_000) * torch.arange(num_features // 2) / (num_features // 2))
        self.register_buffer("frequencies", 1000 * frequencies, persistent=False)
        self.mlp = embedding_mlp(num_features, width)

    def forward(self, t: Tensor) -> Tensor:
        """Embed times in [0, 1]."""
        return self.mlp(_sinusoids(t, self.frequencies))


def _embedding(attribute: Attribute, width: int) -> nn.Module:
    if isinstance(attribute, Categorical):
        return _CategoricalEmbedding(attribute, width)
    return (
        _NumericEmbedding(attribute, width) if isinstance(attribute, Numeric) else _CaptionEmbedding(attribute, width)
    )


class _CategoricalEmbedding(nn.Module):
    """A table with a row per name and the null in the last row; one table gets a gradient in every batch."""

    def __init__(self, attribute: Categorical, width: int) -> None:
        super().__init__()
        self.null = len(attribute.names)
        self.table = nn.Embedding(self.null + 1, width)  # initially standard normal, the scale of the time embedding

    def forward(self, index: Tensor) -> Tensor:
        return self.table(torch.where(index < 0, self.null, index))


class _NumericEmbedding(nn.Module):
    """Normalised value → sines and cosines → MLP; the normaliser is saved with the weights."""

    mean: Tensor
    std: Tensor
    frequencies: Tensor

    def __init__(self, attribute: Numeric, width: int, *, num_features: int = 32) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(attribute.mean))
        self.register_buffer("std", torch.tensor(attribute.std))
        # periods from half a standard deviation, for detail, to 32, over which every usual value is distinct
        periods = torch.logspace(-1, 5, num_features // 2, base=2)
        self.register_buffer("frequencies", 2 * math.pi / periods, persistent=False)
        self.mlp = embedding_mlp(num_features, width)
        self.null = nn.Parameter(torch.randn(width))

    def forward(self, value: Tensor) -> Tensor:
        missing = value.isnan()
        normalised = torch.where(missing, 0.0, (value - self.mean) / self.std)
        embedded = self.mlp(_sinusoids(normalised, self.frequencies))
        return torch.where(missing[:, None], self.null.to(embedded.dtype), embedded)


class _CaptionEmbedding(nn.Module, HasCaptions):
    """Pooled embedding of the text encoder → layer norm → MLP; −1 is the empty caption, row 0.

    The table is not saved: another run has other captions, and the text encoder can embed them again.
    """

    table: Tensor

    def __init__(self, attribute: Caption, width: int) -> None:
        super().__init__()
        self.set_captions(attribute)
        self.mlp = embedding_mlp(attribute.pooled.shape[1], width, variance=1.0)

    def set_captions(self, caption: Caption) -> None:
        pooled = caption.pooled.float()
        self.register_buffer("table", F.layer_norm(pooled, pooled.shape[1:]), persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        return self.mlp(self.table[index.clamp(min=0)])


def embedding_mlp(num_features: int, width: int, *, variance: float = 0.5, std: float = 1.0) -> nn.Sequential:
    """An MLP from features of the given variance, by default that of sines and cosines, to an embedding.

    The embedding has the standard deviation `std` from the first step, so it has an effect at once. With the usual
    initial weights of 0.02 it would be as small, and the blocks' modulation, which starts at zero, would take thousands
    of steps to respond to it.
    """
    first, second = nn.Linear(num_features, width), nn.Linear(width, width)
    nn.init.normal_(first.weight, std=(variance * num_features) ** -0.5)
    nn.init.normal_(second.weight, std=std * (0.36 * width) ** -0.5)  # SiLU of a standard normal has mean square 0.36
    for linear in (first, second):
        nn.init.zeros_(linear.bias)
    return nn.Sequential(first, nn.SiLU(), second)


def _sinusoids(values: Tensor, frequencies: Tensor) -> Tensor:
    """cos and sin of values × frequencies in float32, (B,) and (F,) → (B, 2F)."""
    angles = values.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
