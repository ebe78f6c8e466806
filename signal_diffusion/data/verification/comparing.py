"""The counts of each split against the numbers in the card: rows, marginals, ranges, means, standard deviations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from signal_diffusion.data.balancing import marginals_of_split
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.montages import montages_of
from signal_diffusion.data.verification.counting import SplitCounts
from signal_diffusion.errors import listed

__all__ = ["compare_marginals", "compare_moments", "compare_montages", "compare_ranges", "compare_rows"]

_SHARES = 2e-4  # tolerance; shares in the card have four digits
_MOMENTS = 1e-3  # tolerance relative to the mean; the column is float32


def compare_rows(split: str, stated: Mapping[str, Any], found: SplitCounts) -> Iterator[str]:
    """Yield complaints about the number of examples and windows of a split."""
    if stated["examples"] != found.examples:
        yield f"{split}: the card says {stated['examples']} examples, found {found.examples}"
    if found.windows and stated.get("windows") != len(found.windows):
        yield f"{split}: the card says {stated['windows']} windows, found {len(found.windows)}"


def compare_marginals(split: str, stated: Mapping[str, Any], found: SplitCounts, card: DatasetCard) -> Iterator[str]:
    """Yield complaints about the counts and shares of each category in a split."""
    for name, entries in stated["marginals"].items():
        if name not in found.values:
            continue
        counted = found.values[name]
        actual = marginals_of_split(split, {name: list(counted)}, list(counted.values()))[name]
        for value in [*entries, *(each for each in actual if each not in entries)]:
            mine, theirs = actual.get(value, {"examples": 0}), entries.get(value, {"examples": 0})
            if not _agree(mine, theirs):
                yield f"{split}: the card says {name} {value}: {_entry(theirs)}, found {_entry(mine)}"


def compare_montages(split: str, found: SplitCounts, card: DatasetCard) -> Iterator[str]:
    """Yield complaints about the number of examples of each montage in a split."""
    stated = {tuple(each["absent"]): each["examples"].get(split, 0) for each in montages_of(card)}
    for absent in dict.fromkeys([*stated, *found.absent]):
        if (examples := stated.get(absent, 0)) != found.absent[absent]:
            which = f"without {listed(list(absent))}" if absent else "with all electrodes"
            yield f"{split}: the card says {examples} examples {which}, found {found.absent[absent]}"


def _agree(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    # A share that the card does not state is not checked.
    return one["examples"] == other["examples"] and all(
        math.isclose(one[key], other[key], abs_tol=_SHARES) for key in one.keys() & other.keys() - {"examples"}
    )


def _entry(entry: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in entry.items())


def compare_moments(name: str, column: Mapping[str, Any], found: SplitCounts) -> Iterator[str]:
    """Yield a complaint if the mean or standard deviation of a numeric column of the training split differs."""
    count, total, squares = found.sums.get(name, np.zeros(3))
    if not count:
        return
    mean = total / count
    std = math.sqrt(max(0.0, squares / count - mean**2))
    tolerance = _MOMENTS * max(1.0, abs(mean))
    expected = std if std > tolerance else 1.0  # the card states 0 as 1, so that one can divide by it
    if abs(mean - column["mean"]) > tolerance or abs(expected - column["std"]) > tolerance:
        yield (
            f"train: the card says {name} has mean {column['mean']:.4g} and std {column['std']:.4g}, "
            f"found {mean:.4g} and {expected:.4g}"
        )


def compare_ranges(split: str, stated: Mapping[str, Any], found: SplitCounts) -> Iterator[str]:
    """Yield a complaint for each numeric column of a split whose smallest or largest value differs."""
    for name, limits in stated.get("ranges", {}).items():
        actual = found.ranges.get(name, limits)
        if not np.allclose(limits, actual, rtol=_MOMENTS, atol=0):
            said, seen = (f"{low:g} to {high:g}" for low, high in (limits, actual))
            yield f"{split}: the card says {name} is {said}, found {seen}"
