"""Representations of signals by name, one line each.

Converted images (layout `picture`) are a `Picture`, whatever the name of their representation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.representations.spectrogram import DbIq, DbOnly, DbPolar
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError, one_line

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
    """Look up a representation by name; raises `UserError` for an unknown name."""
    if name not in REPRESENTATIONS:
        raise UserError(f"representation: unknown name {name!r}; use one of: {', '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[name]


def representation_of(card: DatasetCard) -> Representation:
    """Rebuild the representation that made a dataset from its card; a `UserError` if its parameters are impossible."""
    entry = card.representation
    kind = Picture if entry["layout"] == "picture" else representation_named(entry["name"])
    try:
        representation = kind.from_parameters(entry["parameters"])
        _ = representation.shape
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"the card has invalid parameters for {entry['name']} ({one_line(error)}); make the dataset again"
        ) from None
    return representation
