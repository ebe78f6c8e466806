"""Check every claim of a card against the dataset.

One pass over the files. Memory holds one row group of tensors, some bytes per window, and the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.splitting import SPLITS_NAME
from signal_diffusion.data.shared_examples import shared_examples
from signal_diffusion.data.verification.comparing import (
    compare_marginals,
    compare_moments,
    compare_montages,
    compare_ranges,
    compare_rows,
)
from signal_diffusion.data.verification.counting import SplitCounts, count_file
from signal_diffusion.data.verification.descriptions import compare_readme, compare_representation, compare_splits_file
from signal_diffusion.data.verification.listed_files import compare_files, readable_files
from signal_diffusion.data.verification.separation import compare_subjects, compare_windows

__all__ = ["Check", "check_dataset"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """Result of one check of the card against the data."""

    name: str
    claim: str
    """What is true if there are no complaints."""
    complaints: tuple[str, ...]
    """Each starts with the file within the dataset, and says what the card states and what was found."""


_CLAIMS = {
    "files": "exactly the files of the card, unchanged",
    "representation": "its parameters give the card's shape, layout and inverse",
    "columns": "names and kinds as in the card",
    "rows": "number of examples and windows of each split as in the card",
    "values": "categories are named in the card, numbers have its range, mean and standard deviation",
    "marginals": "counts and shares of each category, and of each montage, as in the card",
    "flat": "no example is flat, and no electrode of a time series",
    "tensors": "have the card's shape, are finite (electrodes that a montage lacks are NaN) and in [-1, 1]",
    "subjects": "each split has the subjects listed in the card, and no subject is in two splits",
    "windows": "each occurs once, with all of its electrodes",
    "contents": "no example is in two splits, by its values",
    "splits": f"{SPLITS_NAME}, if it exists, agrees with the card",
    "readme": "README.md names the card's splits",
}


def check_dataset(root: Path) -> list[Check]:
    """Verify every claim of the card of the dataset at `root`; returns one `Check` per claim, in a fixed order.

    A file that cannot be read is a complaint of "files", and is ignored by the other checks. Raises `UserError` only
    if the card is missing or cannot be read.
    """
    card = DatasetCard.load(root)
    complaints: dict[str, list[str]] = {name: [] for name in _CLAIMS}
    complaints["files"] += compare_files(root, card)
    complaints["representation"] += compare_representation(card)
    found = {split: SplitCounts() for split in card.splits}
    for split, path in readable_files(root, card, complaints["files"]):
        count_file(root, path, card, found[split], complaints)
    for name, column in card.columns.items():
        if column["kind"] == "numeric" and "train" in found:
            complaints["values"] += compare_moments(name, column, found["train"])
    for split, stated in card.splits.items():
        complaints["rows"] += compare_rows(split, stated, found[split])
        complaints["values"] += compare_ranges(split, stated, found[split])
        complaints["marginals"] += compare_marginals(split, stated, found[split], card)
        complaints["marginals"] += compare_montages(split, found[split], card)
    complaints["subjects"] += compare_subjects(card, found)
    complaints["windows"] += compare_windows(card, found)
    complaints["contents"] += shared_examples({split: each.digests for split, each in found.items()})
    complaints["splits"] += compare_splits_file(root, card)
    complaints["readme"] += compare_readme(root, card)
    return [Check(name=name, claim=claim, complaints=tuple(complaints[name])) for name, claim in _CLAIMS.items()]
