"""Representations of signals by name, one line each.

Converted images (layout `picture`) are a `Picture`, whatever the name of their representation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from signal_diffusion.data.montages import ENTRY
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.representations.spectrogram import DbIq, DbOnly, DbPolar
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError, listed, one_line

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
    """Rebuild the representation that made a dataset from its card.

    Raises
    ------
    UserError
        If its parameters are impossible, or contradict the rest of the card.
    """
    entry = card.representation
    kind = Picture if entry["layout"] == "picture" else representation_named(entry["name"])
    try:
        representation = kind.from_parameters(entry["parameters"])
        shape = tuple(representation.shape)
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise UserError(
            f"the card has invalid parameters for {entry['name']} ({one_line(error)}); make the dataset again"
        ) from None
    for stated, found in _contradictions(card, shape):
        raise UserError(f"the card says {stated}, but {found}; make the dataset again")
    return representation


def _contradictions(card: DatasetCard, shape: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """What a card says, and what its parameters, which give the `shape`, or names of electrodes say instead."""
    name, parameters = card.representation["name"], card.representation["parameters"]
    for key, value in (("window", card.window), ("sampling_rate", card.sampling_rate)):
        if value is not None and parameters.get(key, value) != value:
            yield f"{key} {value}", f"the parameters of {name} say {parameters[key]}"
    if card.shape != shape:
        yield f"shape {card.shape}", f"its parameters give {shape}"
    if not card.channels:
        return
    means = parameters.get("mean")
    number = parameters.get("electrodes", len(means) if isinstance(means, list | tuple) else len(card.channels))
    if number != len(card.channels):
        yield f"{len(card.channels)} channels", f"the parameters of {name} are those of {number}"
    by_electrode = card.representation["layout"] == "electrode"
    named = {
        "column electrode": card.columns.get("electrode", {}).get("names", ()) if by_electrode else (),
        "entry positions": card.positions,
        f"entry {ENTRY}": [each for montage in card.preprocessing.get(ENTRY, ()) for each in montage["absent"]],
    }
    for where, names in named.items():
        if unknown := [each for each in names if each not in card.channels]:
            yield f"channels {listed(card.channels)}", f"its {where} names {listed(unknown)}"
