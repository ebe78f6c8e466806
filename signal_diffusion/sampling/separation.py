"""How well a score tells two sets of examples apart, with an interval by bootstrap over people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["CONFIDENCE", "Separation", "separations"]

DRAWS = 200
"""Bootstrap draws of people."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Separation:
    """AUC with which a score tells members from others: 0.5 is chance. Its interval is None for one person."""

    auc: float
    interval: tuple[float, float] | None


def separations(scores: np.ndarray, is_member: np.ndarray, people: np.ndarray) -> list[Separation]:
    """The separation by each column of scores (N, K), which are larger for members, with the person of each row."""
    aucs = _aucs(scores, is_member)
    groups = [
        [np.flatnonzero((is_member == kind) & (people == person)) for person in np.unique(people[is_member == kind])]
        for kind in (True, False)
    ]
    least = min(map(len, groups))
    if least < 2:
        return [Separation(auc=auc, interval=None) for auc in aucs.tolist()]
    drawn = []
    for number in range(DRAWS):
        random = np.random.default_rng(number)
        rows = np.concatenate([own[i] for own in groups for i in random.integers(0, len(own), len(own))])
        drawn.append(_aucs(scores[rows], is_member[rows]))
    # Student's t with the people of the smaller set: percentiles of so few people are too narrow.
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, least - 1)) * np.std(drawn, axis=0, ddof=1)
    low, high = np.maximum(0, aucs - half), np.minimum(1, aucs + half)
    return [Separation(auc=a, interval=(b, c)) for a, b, c in np.stack([aucs, low, high], 1).tolist()]


def _aucs(scores: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    """AUC of each column of scores (N, K), (K,): the Mann-Whitney statistic ÷ the number of pairs."""
    members = np.count_nonzero(is_member)
    ranks = stats.rankdata(scores, axis=0)[is_member].sum(0)
    return (ranks - members * (members + 1) / 2) / (members * (len(scores) - members))
