"""No subject and no window is in two splits, and each window is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.verification.counting import WINDOW, SplitCounts

__all__ = ["compare_subjects", "compare_windows"]


def compare_subjects(card: DatasetCard, found: Mapping[str, SplitCounts]) -> Iterator[str]:
    """Yield complaints about subjects that are in two splits, or not in the split that the card lists."""
    split_of: dict[str, str] = {}
    for split, stated in card.splits.items():
        if "subject" not in found[split].values:  # a missing column is a complaint of "columns"
            continue
        actual = {subject for subject in found[split].values.get("subject", ()) if subject is not None}
        listed = set(stated.get("subjects", ()))
        for subject in sorted(actual - listed):
            yield f"{split}: the card does not list subject {subject}, found {_count_examples(found[split], subject)}"
        for subject in sorted(listed - actual):
            yield f"{split}: the card lists subject {subject}, found no example"
        for subject in sorted(actual | listed):
            if subject in split_of and split_of[subject] != split:
                yield f"{split}: subject {subject} is also in {split_of[subject]}; expected one split per subject"
            split_of.setdefault(subject, split)


def _count_examples(found: SplitCounts, subject: str) -> str:
    return f"{found.values['subject'][subject]} examples"


def compare_windows(card: DatasetCard, found: Mapping[str, SplitCounts]) -> Iterator[str]:
    """Yield complaints about windows that are in two splits, repeated, or lack electrodes."""
    seen: dict[tuple[Any, ...], str] = {}
    names = [name for name in WINDOW if name in card.columns]
    for split, counted in found.items():
        for key, times in counted.repeated.items():
            yield f"{split}: {_named([*names, 'electrode'], key)} occurs {times + 1} times; expected once"
        for key, electrodes in counted.windows.items():
            if "electrode" in card.columns and electrodes.bit_count() != len(card.channels):
                count = electrodes.bit_count()
                yield f"{split}: {_named(names, key)} has {count} electrodes; the card says {len(card.channels)}"
            if seen.setdefault(key, split) != split:
                yield f"{split}: {_named(names, key)} is also in {seen[key]}; expected one split per window"


def _named(names: Sequence[str], key: tuple[Any, ...]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, key, strict=False))
