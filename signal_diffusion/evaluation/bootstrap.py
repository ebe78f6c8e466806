"""Intervals by drawing people with replacement."""

from __future__ import annotations

import numpy as np

__all__ = ["DRAWS", "LEAST_PEOPLE", "Interval", "draws_of_people", "estimate_of"]

DRAWS = 1000
"""Draws of people for an interval."""
LEAST_PEOPLE = 3
"""People for an interval."""
PERCENTILES = (2.5, 97.5)
Interval = tuple[float, float]


def draws_of_people(count: int, draws: int, seed: int) -> np.ndarray:
    """Which people are drawn, (draws + 1, count); the first row is everybody once."""
    random = np.random.default_rng(seed)
    return np.concatenate([np.arange(count)[None], random.integers(0, count, (draws, count))])


def estimate_of(values: np.ndarray) -> tuple[float | None, Interval | None]:
    """The value of everybody, `values[0]`, and the 95 % interval of the draws after it, (draws + 1,).

    The value is None if it is not finite; the interval is None if most draws have no finite value.
    """
    if not np.isfinite(values[0]):
        return None, None
    drawn = values[1:][np.isfinite(values[1:])]
    if len(drawn) <= len(values) / 2:
        return float(values[0]), None
    low, high = np.percentile(drawn, PERCENTILES)
    return float(values[0]), (float(low), float(high))
