"""Datasets of recordings with different electrodes (`prepare --missing absent`).

Their examples are time series with a row for each electrode that any recording has; the rows of electrodes that a
recording lacks are NaN. The card counts the people and examples of each montage in `preprocessing["montages"]`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.errors import UserError, listed

if TYPE_CHECKING:
    from signal_diffusion.data.card import DatasetCard

__all__ = [
    "ENTRY",
    "absent_electrodes",
    "are_complete",
    "check_whole",
    "examples_with",
    "main_montage",
    "montages_in_words",
    "montages_of",
    "positions_of",
]

ENTRY = "montages"
"""Key of a card's `preprocessing`: a list of `absent` (electrodes), `subjects` and `examples` (numbers by split)."""


def montages_of(card: DatasetCard) -> list[Mapping[str, Any]]:
    """The montages that a card counts; [] if all recordings have all electrodes, or rows are no electrodes."""
    rows_are_electrodes = card.representation["name"] == "timeseries" and card.shape[1] == len(card.channels)
    return card.preprocessing.get(ENTRY, []) if rows_are_electrodes else []


def absent_electrodes(card: DatasetCard) -> list[str]:
    """The electrodes that some recordings of a dataset lack, in the card's order."""
    lacking = {name for montage in montages_of(card) for name in montage["absent"]}
    return [name for name in card.channels if name in lacking]


def examples_with(card: DatasetCard, electrodes: Collection[str], splits: Sequence[str]) -> int:
    """How many examples of some splits have these electrodes and no others, by the card."""
    absent = [name for name in card.channels if name not in electrodes]
    if not (montages := montages_of(card)):
        return 0 if absent else sum(card.splits[split]["examples"] for split in splits)
    return sum(each["examples"].get(split, 0) for each in montages if each["absent"] == absent for split in splits)


def main_montage(card: DatasetCard, splits: Sequence[str]) -> list[str]:
    """The electrodes of the montage that most examples of some splits have, in the card's order."""
    found = [[name for name in card.channels if name not in each["absent"]] for each in montages_of(card)]
    return max(found, key=lambda names: examples_with(card, names, splits), default=list(card.channels))


def are_complete(tensors: np.ndarray, card: DatasetCard) -> np.ndarray:
    """Whether each of tensors (n, C, H, W) is finite, except for electrodes that one of the card's montages lacks."""
    finite = np.isfinite(tensors)
    if montages := montages_of(card):
        absent = np.isnan(tensors).all(axis=(1, 3))  # (n, H)
        stated = np.array([[name in montage["absent"] for name in card.channels] for montage in montages])
        as_stated = (absent[:, None] == stated).all(axis=2).any(axis=1)
        finite |= (absent & as_stated[:, None])[:, None, :, None]
    return finite.all(axis=(1, 2, 3))


def montages_in_words(card: DatasetCard) -> list[str]:
    """A line for each montage: its electrodes, people and examples."""
    lines, total = [], len(card.channels)
    for montage in montages_of(card):
        subjects, examples = (sum(montage[key].values()) for key in ("subjects", "examples"))
        absent = montage["absent"]
        which = f"{total - len(absent)} of {total} electrodes, without {listed(absent)}" if absent else f"all {total}"
        lines.append(f"{which}: {subjects} subject{'' if subjects == 1 else 's'}, {examples} examples")
    return lines


def positions_of(card: DatasetCard, where: str, advice: str) -> list[list[float]]:
    """The positions of a dataset's electrodes, in order; a `UserError` that starts with `where` if any has none."""
    if missing := [name for name in card.channels if name not in card.positions]:
        raise UserError(f"{where}: the dataset has no position of {listed(missing)}; {advice}")
    return [card.positions[name] for name in card.channels]


def check_whole(card: DatasetCard, where: str, instead: str = "") -> None:
    """Raise a `UserError` that starts with `where` if some recordings lack electrodes; `instead` is other advice."""
    if lacking := absent_electrodes(card):
        raise UserError(
            f"{where}: some recordings of the dataset lack electrodes ({listed(lacking)}), expected all in each; "
            f"{instead}prepare a dataset with --channels that all recordings have, or only from those of one montage"
        )
