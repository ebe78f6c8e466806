"""Which windows are compared: groups of the same size, and random draws of people for intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.people import spread_over_people

__all__ = ["Groups", "draws", "groups_by_label", "matched_groups"]


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Windows of real people, of the set that is judged, and of other real people for the floor."""

    real: Features
    synthetic: Features
    other: Features | None
    """None if there are too few people for a floor."""
    train: Features | None = None
    """Training windows of all people, at most as many as all synthetic ones."""
    missing: str = ""
    """Why there is no floor."""


def matched_groups(real: Features, synthetic: Features, train: Features | None, *, most: int, seed: int = 0) -> Groups:
    """Groups of the same number of windows (at most `most`), of disjoint people.

    The floor's other people are those of `train`, as many as the real ones; without `train`, the real people are split
    into halves, of which the first stays for the comparison.
    """
    random = np.random.default_rng(seed)
    other, missing = train, ""
    if real.subjects is None:
        other, missing = None, "real windows have no column subject"
    elif train is None:
        people = random.permutation(real.people)
        if len(people) < 4:
            missing = f"{len(people)} real people, and no training data; at least 4 people are needed for two groups"
        else:
            other = _of_people(real, people[len(people) // 2 :])
            real = _of_people(real, people[: len(people) // 2])
    elif train.subjects is None:
        other, missing = None, "training windows have no column subject"
    else:
        people = random.permutation(train.people)
        other = _of_people(train, people[: len(real.people)])
    size = min(most, *(len(each) for each in (real, synthetic, other) if each is not None))
    return Groups(
        real=_balanced(real, size, random),
        synthetic=_balanced(synthetic, size, random),
        other=None if other is None else _balanced(other, size, random),
        train=None if train is None else _balanced(train, min(len(train), len(synthetic)), random),
        missing=missing,
    )


def draws(groups: Groups, count: int, seed: int = 0) -> Iterator[Groups]:
    """Yield bootstrap draws of people: each person as often as drawn with replacement, with a share of the windows.

    A person who is drawn k times has k shares, each of half of the person's windows, but no window twice, which would
    be its own nearest neighbour. Sets without people are halved at random; both give the spread of the whole set. There
    are none of one real person, which would say nothing about others.
    """
    for number in range(0 if len(groups.real.people) == 1 else count):
        random = np.random.default_rng([seed, number])
        parts = [_resampled(each, random) for each in (groups.real, groups.synthetic, groups.other) if each is not None]
        size = min(map(len, parts))
        parts = [part.take(random.permutation(len(part))[:size]) for part in parts]
        yield Groups(
            real=parts[0],
            synthetic=parts[1],
            other=parts[2] if groups.other is not None else None,
            train=None if groups.train is None else _resampled(groups.train, random),
        )


def groups_by_label(groups: Groups, *, least: int) -> dict[str, Groups]:
    """The same groups of each label that all of them have `least` windows of."""
    sets = [each for each in (groups.real, groups.synthetic, groups.other) if each is not None]
    columns = [column for each in sets if (column := each.column("label")) is not None]
    if len(columns) < len(sets):
        return {}
    found = {}
    for label in sorted(set(columns[0].tolist()) - {""}):
        rows = [np.flatnonzero(column == label) for column in columns]
        if min(map(len, rows)) >= least:
            parts = [each.take(some) for each, some in zip(sets, rows, strict=True)]
            other = parts[2] if len(parts) > 2 else None
            found[label] = Groups(real=parts[0], synthetic=parts[1], other=other, missing=groups.missing)
    return found


def _of_people(features: Features, people: np.ndarray) -> Features:
    assert features.subjects is not None
    return features.take(np.flatnonzero(np.isin(features.subjects, people)))


def _balanced(features: Features, size: int, random: np.random.Generator) -> Features:
    """`size` windows at random, as evenly from all people as possible."""
    if len(features) == size:
        return features
    order = spread_over_people(features.subjects, random, count=len(features))
    return features.take(np.sort(order[:size]))


def _resampled(features: Features, random: np.random.Generator) -> Features:
    subjects = features.subjects
    if subjects is None:
        return features.take(random.permutation(len(features))[: max(1, len(features) // 2)])
    people, codes = np.unique(subjects, return_inverse=True)
    times = np.bincount(random.integers(0, len(people), len(people)), minlength=len(people))
    rows = []
    for code, count in enumerate(times):
        own = random.permutation(np.flatnonzero(codes == code))
        rows.append(own[: min(len(own), -(-count * len(own) // 2))])
    return features.take(np.concatenate(rows))
