"""From metrics of windows to estimates with intervals over people, and differences between methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from signal_diffusion.evaluation.bootstrap import DRAWS, LEAST_PEOPLE, Interval, draws_of_people, estimate_of
from signal_diffusion.evaluation.restoration.metrics import METRICS, POWER

__all__ = ["MODEL", "Estimate", "Row", "rows_of"]

MODEL = "model"
"""Name of the method that is judged; the others are baselines."""
Estimate = tuple[float | None, Interval | None]
"""A value and its 95 % interval; None where there is none."""
OfWindows = Mapping[str, np.ndarray]
"""Metric → its values of the windows, (N,)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method in one scenario."""

    scenario: str
    method: str
    estimates: Mapping[str, Estimate]
    """Metric → mean over people of the mean of each one's windows, that of the NMSE weighted with their power."""
    gain: Estimate = (None, None)
    """NMSE of a baseline minus that of the model for the same people: positive where the model is better."""


def rows_of(scores: Mapping[str, Mapping[str, OfWindows]], people: np.ndarray) -> list[Row]:
    """Rows from scenario → method → metric → values of the windows.

    Parameters
    ----------
    people
        Person of each window, (N,).
    """
    _, person = np.unique(people, return_inverse=True)
    drawn = draws_of_people(int(person.max()) + 1, DRAWS, 0)
    rows = []
    for scenario, methods in scores.items():
        for method, found in methods.items():
            weights = {name: found[POWER] if name == "nmse" else np.ones(len(people)) for name in METRICS}
            estimates = {name: _estimate(found[name], weights[name], person, drawn) for name in METRICS}
            gain: Estimate = (None, None)
            if method != MODEL:
                gain = _estimate(found["nmse"] - methods[MODEL]["nmse"], weights["nmse"], person, drawn)
            rows.append(Row(scenario=scenario, method=method, estimates=estimates, gain=gain))
    return rows


def _estimate(values: np.ndarray, weights: np.ndarray, person: np.ndarray, drawn: np.ndarray) -> Estimate:
    weighted = np.where(weights > 0, weights * values, 0)  # a flat window has no NMSE
    means = np.bincount(person, weighted) / np.bincount(person, weights)
    value, interval = estimate_of(means[drawn].mean(1))
    return value, interval if len(means) >= LEAST_PEOPLE else None
