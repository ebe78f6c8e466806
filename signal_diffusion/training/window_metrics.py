"""Metrics of `evaluation` for the samples that are generated while training, in microvolts, with their floors.

The floor of a metric is its value between the validation people and as many training people, in groups of the same
size. Examples of single electrodes are windows of one electrode. What a representation loses (the phase of db-only)
is lost on both sides, since real examples take the same way back to microvolts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.evaluation.comparison import MOST_WINDOWS
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.groups import matched_groups
from signal_diffusion.evaluation.metrics import METRICS
from signal_diffusion.evaluation.windows import SUBJECT, Windows

__all__ = ["NAMES", "WindowMetrics", "rows_of_people", "windows_in"]

NAMES = ("lsd", "bp-w1", "envcv-w1", "eeg-fd", "coverage")
LARGEST = 1e12
"""µV; larger samples are as useless as those that are not finite, and their powers overflow."""


class WindowMetrics:
    """Compares generated with real windows; every time the same real ones."""

    def __init__(self, real: Windows, other: Windows, num_generated: int) -> None:
        """Compute the floors between `real` validation windows and windows of `other` training people."""
        stand_in = real.take(np.arange(num_generated) % len(real))  # the groups depend only on its size
        groups = matched_groups(Features(real), Features(stand_in), Features(other), most=MOST_WINDOWS)
        self._real = groups.real
        self.size = len(groups.real)
        """Windows in each group, at most `num_generated`."""
        self.floors: dict[str, float] = {}
        """Name of a metric → its floor."""
        self.missing: dict[str, str] = {}
        """Name of a metric that these windows do not have → why."""
        self.no_floors = groups.missing
        """Why there are no floors; "" if there are."""
        for name in NAMES:
            try:
                floor = METRICS[name].compute(groups.real, groups.other or groups.real).value
            except Unavailable as reason:
                self.missing[name] = str(reason)
            else:
                self.floors |= {} if self.no_floors else {name: floor}

    def __call__(self, signals: Tensor) -> dict[str, float] | None:
        """Values and floors by name, such as "lsd" and "lsd_floor", for signals (N, …, samples); None if not finite."""
        x = _with_electrodes(signals)
        if not (np.isfinite(x).all() and np.abs(x).max() < LARGEST):
            return None
        windows = Windows(signals=x, sfreq=self._real.windows.sfreq, ch_names=self._real.windows.ch_names)
        generated = Features(windows.take(evenly_spaced(len(x), self.size)))
        found = {}
        for name in NAMES:
            if name not in self.missing:
                found[name] = METRICS[name].compute(self._real, generated).value
            if name in self.floors:
                found[f"{name}_floor"] = self.floors[name]
        return found


def windows_in(
    examples: Examples, rows: Sequence[int], representation: Representation, card: DatasetCard, *, seed: int
) -> Windows:
    """Some examples of a split as windows, with their subjects if the dataset has them."""
    x, _ = examples[rows]
    signals = _with_electrodes(representation.to_signals(x, seed, rows))
    subjects = examples.column(SUBJECT, rows)
    assert card.sampling_rate is not None
    return Windows(
        signals=signals,
        sfreq=card.sampling_rate,
        ch_names=("EEG",) if representation.per_electrode else card.channels,
        columns={} if subjects is None else {SUBJECT: np.array(subjects)},
        name="real windows",
    )


def rows_of_people(examples: Examples, count: int, *, most: int, seed: int) -> list[int]:
    """At most `most` examples of `count` people, chosen at random; of all people if they are unknown."""
    subjects = examples.column(SUBJECT, range(len(examples)))
    rows = np.arange(len(examples))
    if subjects is not None:
        chosen = np.random.default_rng(seed).permutation(sorted(set(subjects)))[:count]
        rows = np.flatnonzero(np.isin(subjects, chosen))
    return rows[evenly_spaced(len(rows), most)].tolist()


def _with_electrodes(signals: Tensor) -> np.ndarray:
    """Signals (N, electrodes, samples), also of single electrodes (N, samples)."""
    x = signals.cpu().numpy()
    return x[:, None] if x.ndim == 2 else x
