"""What a classifier is trained on: windows from several sources, with targets, weights and people."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from signal_diffusion.evaluation.features import Features

__all__ = ["Examples"]


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Windows from one or more sources; the first source is the one that is added to."""

    parts: tuple[Features, ...]
    targets: np.ndarray
    """Class number or number to predict, (n,)."""
    people: np.ndarray
    """Name of the person of each example, (n,); a name of its own for each window without one."""
    weights: np.ndarray
    """(n,); below 1 for mixed windows, which are there once per target."""

    @classmethod
    def of(cls, features: Features, targets: np.ndarray) -> Examples:
        """All windows of one source, of weight 1."""
        subjects, own = features.subjects, _own_names(len(features))
        people = own if subjects is None else np.where(subjects == "", own, subjects)
        return cls(parts=(features,), targets=targets, people=people, weights=np.ones(len(targets)))

    def without_people(self) -> Examples:
        """The same examples, each with a name of its own for its person."""
        return dataclasses.replace(self, people=_own_names(len(self)))

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.targets)

    def __add__(self, other: Examples) -> Examples:
        return Examples(
            parts=self.parts + other.parts,
            targets=np.concatenate([self.targets, other.targets]),
            people=np.concatenate([self.people, other.people]),
            weights=np.concatenate([self.weights, other.weights]),
        )

    def take(self, rows: np.ndarray) -> Examples:
        """Some examples of a single source."""
        [features] = self.parts
        columns = {name: getattr(self, name)[rows] for name in ("targets", "people", "weights")}
        return dataclasses.replace(self, parts=(features.take(rows),), **columns)

    def of_people(self, people: Sequence[str]) -> Examples:
        """Examples of some people, of a single source."""
        return self.take(np.flatnonzero(np.isin(self.people, people)))

    @property
    def is_first(self) -> np.ndarray:
        """Whether each example is of the first source, (n,)."""
        return np.arange(len(self)) < len(self.parts[0])

    def stack(self, compute: Callable[[Features], np.ndarray]) -> np.ndarray:
        """What a function gives of the windows of all sources, (n, …)."""
        return np.concatenate([compute(each) for each in self.parts])

    def balanced_weights(self, *, is_number: bool) -> np.ndarray:
        """Weights with the same sum for each class; their total is the number of windows of the first source.

        So added copies of the training windows change nothing, not even the strength of the regularisation.
        """
        weights = self.weights.astype(np.float64)
        if not is_number:
            weights = weights / np.bincount(self.targets, weights)[self.targets]
        return weights * len(self.parts[0]) / weights.sum()


def _own_names(count: int) -> np.ndarray:
    return np.array([f"window {row}" for row in range(count)])
