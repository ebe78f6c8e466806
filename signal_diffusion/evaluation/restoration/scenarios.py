"""What is taken from windows to be restored: some electrodes, a gap in all electrodes, or the end of the window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from signal_diffusion.errors import listed

__all__ = ["GAPS", "SHARES", "Scenario", "referenced", "scenarios_of", "without_new"]

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of electrodes that are missing."""
GAPS = (0.25, 1.0, 4.0)
"""Lengths of gaps, s."""
SETS = 4
"""Sets of missing electrodes for each share, which the windows have in turn."""
LEAST_CONTEXT = 1 / 8
"""Share of the window that is given on each side of a gap."""
CONTINUED = 1 / 4
"""Share of the window that is missing at its end in the continuation."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is missing of N windows."""

    name: str
    kind: Literal["electrodes", "gap", "continuation"]
    missing: np.ndarray
    """Bool (N, electrodes, samples): in each window the same stretch of time of some or all electrodes."""


def scenarios_of(
    shape: tuple[int, int, int],
    sfreq: float,
    *,
    shares: Sequence[float] = SHARES,
    gaps: Sequence[float] = GAPS,
    seed: int = 0,
) -> tuple[list[Scenario], list[str]]:
    """The scenarios of windows of a shape (N, electrodes, samples), and notes on those that are left out.

    Parameters
    ----------
    shares
        Shares of electrodes; at least one electrode is missing, and at least one is given.
    gaps
        Lengths of gaps in s; they lie at random, with an eighth of the window given on each side.
    """
    _, electrodes, samples = shape
    found, notes = [], []
    for share in shares:
        if electrodes < 2:
            notes.append(f"{100 * share:g} % of electrodes: left out, the windows have one electrode")
            continue
        name = f"{100 * share:g} % of electrodes"
        found.append(Scenario(name=name, kind="electrodes", missing=_sets(shape, share, seed)))
    for gap in gaps:
        length, margin = max(1, round(gap * sfreq)), round(LEAST_CONTEXT * samples)
        if length > samples - 2 * margin:
            notes.append(f"a gap of {gap:g} s: left out, windows of {samples / sfreq:.3g} s are too short for it")
            continue
        found.append(Scenario(name=f"gap of {gap:g} s", kind="gap", missing=_gaps(shape, length, margin, seed)))
    end = np.arange(samples) >= samples - max(1, round(CONTINUED * samples))
    name = f"continuation, {np.count_nonzero(end) / sfreq:.2g} s"
    found.append(Scenario(name=name, kind="continuation", missing=np.broadcast_to(end, shape)))
    return found, notes


def without_new(shape: tuple[int, int, int], electrodes: Sequence[str], trained_on: Sequence[str]) -> list[Scenario]:
    """The scenario in which exactly the electrodes that a model was not trained on are missing; [] if there is none."""
    new = np.array([name not in trained_on for name in electrodes])
    if not new.any():
        return []
    name = f"not trained on: {listed([each for each, is_new in zip(electrodes, new, strict=True) if is_new])}"
    return [Scenario(name=name, kind="electrodes", missing=np.broadcast_to(new[:, None], shape))]


def referenced(signals: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Signals (N, electrodes, samples) minus the average of the given electrodes of each window.

    An average over all electrodes contains the missing ones, which would show in those that are given.
    """
    given = ~missing.any(axis=-1, keepdims=True)  # (N, electrodes, 1)
    return signals - (signals * given).sum(1, keepdims=True) / given.sum(1, keepdims=True)


def _sets(shape: tuple[int, int, int], share: float, seed: int) -> np.ndarray:
    windows, electrodes, _ = shape
    count = min(max(1, round(share * electrodes)), electrodes - 1)
    random = np.random.default_rng([seed, count])
    sets = np.zeros((SETS, electrodes), bool)
    for each in sets:
        each[random.permutation(electrodes)[:count]] = True
    return np.broadcast_to(sets[np.arange(windows) % SETS, :, None], shape)


def _gaps(shape: tuple[int, int, int], length: int, margin: int, seed: int) -> np.ndarray:
    windows, _, samples = shape
    random = np.random.default_rng([seed, length])
    start = random.integers(margin, samples - margin - length + 1, (windows, 1))
    times = np.arange(samples)
    return np.broadcast_to(((times >= start) & (times < start + length))[:, None], shape)
