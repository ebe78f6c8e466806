"""Whose windows they are."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pandas as pd

__all__ = ["SUBJECT", "OfPeople", "spread_over_people"]

SUBJECT = "subject"
"""Column with the person that a window is from."""


class OfPeople(ABC):
    """Windows, or features of them, with a column that names the person of each."""

    @abstractmethod
    def column(self, name: str) -> np.ndarray | None:
        """A column of texts, (N,), "" where unknown; None if there is none."""

    @property
    def subjects(self) -> np.ndarray | None:
        """Person of each window, (N,); None if unknown."""
        return self.column(SUBJECT)

    @property
    def people(self) -> list[str]:
        """Names of the people, sorted; [] if unknown."""
        return [] if self.subjects is None else sorted(set(self.subjects.tolist()))


def spread_over_people(people: np.ndarray | None, random: np.random.Generator, *, count: int) -> np.ndarray:
    """Rows in a random order in which everyone's first window comes before anyone's second, and so on, (count,).

    If `people`, (N,), is None, all `count` rows in a random order.
    """
    order = random.permutation(count)
    if people is None:
        return order
    rank = pd.Series(people[order]).groupby(people[order], dropna=False).cumcount().to_numpy()
    return order[np.argsort(rank, kind="stable")]
