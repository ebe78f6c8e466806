"""Representations of signals by name, a line for each; how they are laid out is their own affair.

Pictures of others, made from nobody knows what, are a `Picture` whatever they call themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.representations.spectrogram import DbIq, DbOnly, DbPolar
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard

__all__ = ["REPRESENTATIONS", "representation_named", "representation_of"]

REPRESENTATIONS: dict[str, type[Representation]] = {
    "db-only": DbOnly,
    "db-iq": DbIq,
    "db-polar": DbPolar,
    "timeseries": TimeSeries,
}


def representation_named(name: str) -> type[Representation]:
    """Look a representation up, or raise a `UserError` that lists those there are."""
    if name not in REPRESENTATIONS:
        raise UserError(f"representation: there is no {name!r}; use one of: {', '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[name]


def representation_of(card: DatasetCard) -> Representation:
    """Rebuild the representation that made a dataset from its card."""
    entry = card.representation
    kind = Picture if entry["layout"] == "picture" else representation_named(entry["name"])
    return kind.from_parameters(entry["parameters"])
