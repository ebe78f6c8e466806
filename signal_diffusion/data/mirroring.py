"""Electrodes of the left and of the right swapped: one of the changes of `[data.augmentation]`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from signal_diffusion.data.montages import check_whole, positions_of
from signal_diffusion.errors import UserError, listed

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.data.representations.representation import Representation

__all__ = ["Mirror", "mirror_of"]

KEY = "[data.augmentation] mirror"
TOLERANCE = math.radians(5)
"""Angle, as seen from the middle of the head, by which a pair may differ from mirror images; neighbours of the 10-10
system are 15° apart or more."""


@dataclass(frozen=True, eq=False)
class Mirror:
    """Gives each electrode of time series (B, 1, H, W) the microvolts of the one on the other side of the head."""

    representation: Representation
    opposite: Tensor
    """The row of the opposite electrode, (H,); of an electrode in the middle, its own."""

    def __call__(self, x: Tensor) -> Tensor:
        """The mirrored examples; in microvolts, because electrodes have scales of their own."""
        signals = self.representation.to_signal(x)
        return self.representation.to_tensor(signals[..., self.opposite.to(x.device), :])


def mirror_of(card: DatasetCard, representation: Representation) -> Mirror:
    """The mirror of a dataset of time series, by the positions in its card.

    Raises
    ------
    UserError
        If electrodes have no position or no opposite, or some recordings lack electrodes.
    """
    check_whole(card, KEY)
    advice = "leave the key out, or prepare the dataset with --channels of both sides"
    places = torch.tensor(positions_of(card, KEY, advice), dtype=torch.float64)
    mirrored = places * torch.tensor([-1.0, 1.0, 1.0], dtype=places.dtype)
    chords, opposite = (mirrored[:, None] - places).norm(dim=-1).min(dim=1)
    alone = (chords > 2 * math.sin(TOLERANCE / 2)) | (opposite[opposite] != torch.arange(len(opposite)))
    if alone.any():
        names = [name for name, is_alone in zip(card.channels, alone.tolist(), strict=True) if is_alone]
        raise UserError(f"{KEY}: no electrode is opposite of {listed(names)}; {advice}")
    return Mirror(representation, opposite)
