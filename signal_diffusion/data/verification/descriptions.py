"""What describes a dataset besides its rows, against the card: the representation, splits.json and README.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.preparing.splitting import SPLITS_NAME, read_splits
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError

__all__ = ["compare_readme", "compare_representation", "compare_splits_file"]


def compare_representation(card: DatasetCard) -> Iterator[str]:
    """Yield complaints about what the representation's parameters determine: shape, layout, inverse, electrodes, …."""
    try:
        rebuilt = representation_of(card)
        actual = {"layout": rebuilt.layout, "inverse": rebuilt.inverse}
    except UserError as error:
        yield f"{CARD_NAME}: {error}"
        return
    for key, value in actual.items():
        if card.representation[key] != value:
            yield f"{CARD_NAME}: the card says {key} {card.representation[key]}, but its parameters give {value}"


def compare_splits_file(root: Path, card: DatasetCard) -> Iterator[str]:
    """Yield complaints about splits.json, if it exists."""
    if not (root / SPLITS_NAME).exists():
        return
    try:
        split_of = read_splits(root / SPLITS_NAME)
    except UserError as error:
        yield f"{SPLITS_NAME}: {error}"
        return
    stated = {subject: split for split, entry in card.splits.items() for subject in entry.get("subjects", ())}
    # It may list subjects without usable recordings, but must have every subject of the card in the same split.
    for subject, split in sorted(stated.items()):
        if split_of.get(subject) != split:
            where = split_of.get(subject, "no split")
            yield f"{SPLITS_NAME}: the card says subject {subject} is in {split}, found in {where}"


def compare_readme(root: Path, card: DatasetCard) -> Iterator[str]:
    """Yield a complaint if README.md does not name the splits, which the Hub's viewer reads there."""
    path = root / "README.md"
    if not path.is_file():
        yield "README.md: missing; the Hub's viewer needs it"
        return
    front = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    named = re.findall(r"^\s*- split: *(\S+)\s*$", front.group(1), re.MULTILINE) if front else []
    if sorted(named) != sorted(card.splits):
        found = ", ".join(named) or "none"
        yield f"README.md: the card has splits {', '.join(card.splits)}; the front matter names {found}"
