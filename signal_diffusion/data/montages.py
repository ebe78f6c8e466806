"""Datasets of recordings with different electrodes (`prepare --missing absent`).

Their examples are time series with a row for each electrode that any recording has; the rows of electrodes that a
recording lacks are NaN. The card counts the people and examples of each montage in `preprocessing["montages"]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from signal_diffusion.errors import UserError, listed

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard

__all__ = ["ENTRY", "absent_electrodes", "check_whole", "montages_of"]

ENTRY = "montages"
"""Key of a card's `preprocessing`: a list of `absent` (electrodes), `subjects` and `examples` (numbers by split)."""


def montages_of(card: DatasetCard) -> list[Mapping[str, Any]]:
    """The montages that a card counts; [] if all recordings have all electrodes."""
    return card.preprocessing.get(ENTRY, [])


def absent_electrodes(card: DatasetCard) -> list[str]:
    """The electrodes that some recordings of a dataset lack, in the card's order."""
    lacking = {name for montage in montages_of(card) for name in montage["absent"]}
    return [name for name in card.channels if name in lacking]


def check_whole(card: DatasetCard, where: str, instead: str = "") -> None:
    """Raise a `UserError` that starts with `where` if some recordings lack electrodes; `instead` is other advice."""
    if lacking := absent_electrodes(card):
        raise UserError(
            f"{where}: some recordings of the dataset lack electrodes ({listed(lacking)}), expected all in each; "
            f"{instead}prepare a dataset with --channels that all recordings have, or only from those of one montage"
        )
