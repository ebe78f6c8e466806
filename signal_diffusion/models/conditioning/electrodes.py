"""How a network tells electrodes apart, which have no order: by an embedding learnt for each, or by their places.

Places are [x, y, z] on the unit sphere, as in the dataset's card. An embedding of places is one function for all
electrodes, so the network takes any of them, any number of them, and in any order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.conditioning.embeddings import embedding_mlp

__all__ = ["PlaceEmbedding", "embedded_electrodes"]

WAVENUMBERS = (1.0, 2.0, 4.0)
"""Of the features, radians per head radius. Neighbours of the 10-20 system are about 0.6 radii apart, so shorter waves
would differ at random between the electrodes of a dataset, and say nothing about places between them."""
DIRECTIONS = 16
"""Directions of the waves of each wavenumber."""


class PlaceEmbedding(nn.Module):
    """Place → cosines and sines of fixed plane waves → MLP, (…, 3) → (…, width).

    Fourier features (Tancik et al., https://arxiv.org/abs/2006.10739), with directions that cover the sphere evenly
    instead of random ones: no direction on the head is special, and nothing has to be saved.

    Parameters
    ----------
    places
        Places of the electrodes that the network is trained on, (H, 3), which are the default.
    width
        Channels of the embedding.
    std
        Its initial standard deviation.
    """

    places: Tensor
    waves: Tensor

    def __init__(self, places: Tensor, width: int, *, std: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("places", places, persistent=False)  # the dataset's card has them
        self.register_buffer("waves", _waves(), persistent=False)
        self.mlp = embedding_mlp(2 * DIRECTIONS * len(WAVENUMBERS), width, std=std)

    def forward(self, places: Tensor | None) -> Tensor:
        """Embed places (B, H, 3), or those of training for None: (B, H, width) or (H, width)."""
        places = self.places if places is None else places.to(self.waves)
        angles = (places[..., None, :] * self.waves).sum(-1)  # not a matrix product, which autocast would round to bf16
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1))


def embedded_electrodes(embedding: nn.Embedding | PlaceEmbedding, cond: Conditioning, num_rows: int) -> Tensor:
    """The embeddings of the rows of an example, (H, width), or (B, H, width) if the conditions have places."""
    if isinstance(embedding, nn.Embedding):
        if cond.places is not None:
            raise ValueError("the network knows electrodes by name, and cannot take their places")
        return embedding.weight
    rows = embedding(cond.places)
    if rows.shape[-2] != num_rows:
        raise ValueError(f"{num_rows} electrodes, but places of {rows.shape[-2]}")
    return rows


def _waves() -> Tensor:
    """Wave vectors (waves, 3); opposite directions have the same features, so the directions cover half a sphere."""
    number = torch.arange(DIRECTIONS)
    z, angle = (number + 0.5) / DIRECTIONS, number * (math.pi * (3 - math.sqrt(5)))  # Fibonacci's lattice
    around = torch.stack([angle.cos(), angle.sin()], dim=1) * (1 - z.square()).sqrt()[:, None]
    directions = torch.cat([around, z[:, None]], dim=1)
    return torch.cat([wavenumber * directions for wavenumber in WAVENUMBERS])
