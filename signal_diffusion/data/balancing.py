"""Rare groups drawn more often, by weights on examples: `[data.balancing]` of an experiment, and what it does.

A group is a combination of values, such as (female, patient). No row is copied and no split is changed: the
order of training examples draws each with a probability proportional to its weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["DEFAULT_MAX_WEIGHT", "balanced_weights", "marginals"]

DEFAULT_MAX_WEIGHT = 10.0


def balanced_weights(columns: Sequence[Sequence[Any]], max_weight: float) -> np.ndarray:
    """Give the weight of each example (N,): inverse to the size of its group, at most `max_weight`.

    With G groups over the n examples whose values are all known, the weight is n / (G · size of the group): 1 in a
    group of average size, so all groups weigh the same where no cap is reached. An example with a missing value
    (None) belongs to no group and keeps the weight 1.
    """
    groups = list(zip(*columns, strict=True))
    sizes = Counter(group for group in groups if None not in group)
    average = sum(sizes.values()) / max(1, len(sizes))
    return np.array([min(max_weight, average / sizes[group]) if group in sizes else 1.0 for group in groups])


def marginals(
    columns: Mapping[str, Sequence[Any]], weights: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[Any, dict[str, float]]]:
    """Count values: column → value → `examples`, and their `share` of the examples whose value is known.

    With `weights`, column → (N,), also the share under these weights as `balanced`.
    """
    return {name: _marginal(values, (weights or {}).get(name)) for name, values in columns.items()}


def _marginal(values: Sequence[Any], weights: np.ndarray | None) -> dict[Any, dict[str, float]]:
    counts = Counter(value for value in values if value is not None)
    weighted: Counter[Any] = Counter()
    for value, weight in zip(values, () if weights is None else weights.tolist(), strict=False):
        if value is not None:
            weighted[value] += weight
    described: dict[Any, dict[str, float]] = {}
    for value in sorted(counts):
        described[value] = {"examples": counts[value], "share": round(counts[value] / counts.total(), 4)}
        if weights is not None:
            described[value]["balanced"] = round(weighted[value] / weighted.total(), 4)
    return described
