"""`[data.balancing]`: sample rare groups more often in training, by weights on examples.

A group is a combination of values, such as (female, patient). No row is copied and no split is changed: training
samples each example in proportion to its weight.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["DEFAULT_MAX_WEIGHT", "balanced_weights", "marginals", "marginals_of_split", "ranges"]

DEFAULT_MAX_WEIGHT = 10.0


def balanced_weights(
    columns: Sequence[Sequence[Any]], max_weight: float, counts: Sequence[int] | None = None
) -> np.ndarray:
    """Weight of each example (N,): inverse to the size of its group, at most `max_weight`.

    With G groups over the n examples whose values are all known, the weight is n / (G · size of the group): 1 in a
    group of average size, so all groups have the same total weight unless the cap is reached. An example with a
    missing value (None) belongs to no group and has the mean weight of the others, so its share stays. `counts` is the
    number of examples that each row stands for; None = one.
    """
    groups = list(zip(*columns, strict=True))
    number = np.ones(len(groups), dtype=int) if counts is None else np.asarray(counts)
    sizes: Counter[tuple[Any, ...]] = Counter()
    for group, count in zip(groups, number.tolist(), strict=True):
        if None not in group:
            sizes[group] += count
    average = sizes.total() / max(1, len(sizes))
    weights = {group: min(max_weight, average / size) for group, size in sizes.items()}
    mean = sum(weights[group] * size for group, size in sizes.items()) / max(1, sizes.total())
    return np.array([weights.get(group, mean or 1.0) for group in groups])


def marginals(
    columns: Mapping[str, Sequence[Any]],
    weights: Mapping[str, np.ndarray] | None = None,
    counts: Sequence[int] | None = None,
) -> dict[str, dict[Any, dict[str, float]]]:
    """Count values: column → value → `examples`, and their `share` of the examples with a known value.

    With `weights`, column → (N,), also the share under these weights, as `balanced`. `counts` is the number of examples
    that each row stands for; None = one.
    """
    return {name: _marginal(values, (weights or {}).get(name), counts) for name, values in columns.items()}


def marginals_of_split(
    split: str, columns: Mapping[str, Sequence[Any]], counts: Sequence[int] | None = None
) -> dict[str, dict[Any, dict[str, float]]]:
    """Marginals as stored in a card; in the training split also `balanced`, for balancing by only that column."""
    if split != "train":
        return marginals(columns, counts=counts)
    weights = {name: balanced_weights([values], DEFAULT_MAX_WEIGHT, counts) for name, values in columns.items()}
    return marginals(columns, weights, counts)


def ranges(columns: Mapping[str, Iterable[float | None]]) -> dict[str, list[float]]:
    """The smallest and the largest known number of each column, without columns of which none is known."""
    known = {
        name: [each for each in values if each is not None and math.isfinite(each)] for name, values in columns.items()
    }
    return {name: [float(min(values)), float(max(values))] for name, values in known.items() if values}


def _marginal(
    values: Sequence[Any], weights: np.ndarray | None, counts: Sequence[int] | None
) -> dict[Any, dict[str, float]]:
    number = np.ones(len(values), dtype=int) if counts is None else np.asarray(counts)
    weighted = number if weights is None else number * weights
    plain: Counter[Any] = Counter()
    balanced: Counter[Any] = Counter()
    for value, count, weight in zip(values, number.tolist(), weighted.tolist(), strict=True):
        if value is not None:
            plain[value] += count
            balanced[value] += weight
    described: dict[Any, dict[str, float]] = {}
    for value in sorted(plain):
        described[value] = {"examples": plain[value], "share": round(plain[value] / plain.total(), 4)}
        if weights is not None:
            described[value]["balanced"] = round(balanced[value] / balanced.total(), 4)
    return described
