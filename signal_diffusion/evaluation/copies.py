"""Metrics of copying: how near windows are to the training data, whatever small shift in time they have.

Distances are between spectrograms: the log10 power of each electrode from 1 to 45 Hz in segments of 1 s every 0.5 s.
The distance of two windows is the least root mean square difference of shifts by multiples of 0.25 s within ± 0.5 s.
Single frequencies, and not bands: their noise makes all windows of a person about equally far apart but for copies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import fft, signal

from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric
from signal_diffusion.evaluation.windows import Windows

__all__ = ["METRICS", "Training", "attach_training", "nearest_in"]

SEGMENT, HOP, SHIFT = 1.0, 0.25, 0.5  # s
STRIDE = 2
"""Every second segment is compared."""
COMPARED = (1, 45)  # Hz
SMALLEST = 1e-3
"""µV²/Hz, added to powers before their logarithm."""


class Training:
    """The windows that a model was trained on, and how far apart they are."""

    def __init__(self, windows: Windows) -> None:
        if len(windows) < 2:
            raise Unavailable("fewer than two training windows")
        self.windows = windows
        self._maps = _maps(windows)
        distances = _distances(self._maps, self._maps)
        np.fill_diagonal(distances, np.inf)
        self._own = distances.min(1)

    def nearest(self, windows: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each window (N,): the nearest training window, its distance, and that window's to its own nearest."""
        distances = _distances(_maps(windows), self._maps)
        found = distances.argmin(1)
        return found, distances.min(1), self._own[found]


def attach_training(features: Features, training: Training) -> None:
    """Let these features know the training data: `nearest` (N, 2), and `nearest_row` (N,), which window that is."""
    rows, *distances = training.nearest(features.windows)
    features.know("nearest", np.stack(distances, -1))
    features.know("nearest_row", rows)


def nearest_in(train: Features) -> Callable[[Features], None]:
    """Training windows → a function that lets features know the nearest of them (a `measurement.Relate`)."""
    return partial(attach_training, training=Training(train.windows))


def violation_rate(real: Features, synthetic: Features) -> Measurement:
    """Share of windows nearer to a training window than that is to its own nearest, %."""
    distance, own = synthetic.nearest.T
    return Measurement(value=float(100 * (distance < own).mean()))


def nearest_distance(real: Features, synthetic: Features) -> Measurement:
    """Median distance to the nearest training window."""
    return Measurement(value=float(np.median(synthetic.nearest[:, 0])))


def _maps(windows: Windows) -> np.ndarray:
    """Spectrograms (N, frames, electrodes · frequencies), float32."""
    segment, hop = round(SEGMENT * windows.sfreq), max(1, round(HOP * windows.sfreq))
    length = windows.signals.shape[-1]
    if length < segment + 2 * round(SHIFT / HOP) * hop:
        raise Unavailable(f"windows of {windows.seconds:g} s; at least {SEGMENT + 2 * SHIFT:g} s are needed")
    frequencies = np.fft.rfftfreq(segment, 1 / windows.sfreq)
    compared = (frequencies >= COMPARED[0]) & (frequencies <= COMPARED[1])
    taper = signal.get_window("hann", segment).astype(np.float32)
    parts = []
    for each in windows.signals:  # one at a time: segments take four times the memory of signals
        segments = np.lib.stride_tricks.sliding_window_view(each, segment, axis=-1)[:, ::hop]
        centred = segments - segments.mean(-1, keepdims=True)
        power = np.abs(fft.rfft(centred * taper)[..., compared]) ** 2 * (2 / (windows.sfreq * (taper**2).sum()))
        level = np.log10(power + SMALLEST)  # (electrodes, frames, frequencies)
        parts.append(level.transpose(1, 0, 2).reshape(level.shape[1], -1))
    return np.stack(parts)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Least root mean square difference of all shifts, (N, M), of maps (N, frames, D) and (M, frames, D)."""
    best = np.full((len(first), len(second)), np.inf, np.float32)
    most = round(SHIFT / HOP)
    frames = first.shape[1]
    for shift in range(-most, most + 1):
        a = first[:, max(0, shift) : frames + min(0, shift) : STRIDE].reshape(len(first), -1)
        b = second[:, max(0, -shift) : frames + min(0, -shift) : STRIDE].reshape(len(second), -1)
        squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T)
        np.minimum(best, np.sqrt(np.maximum(squared, 0) / a.shape[1]), out=best)
    return best


METRICS = (
    Metric(
        name="copies",
        title="AuthViol",
        unit="%",
        offset=1.0,
        question="copies",
        quick=True,
        against_train=nearest_in,
        definition="Share of windows that are nearer to their nearest training window than that is to its own nearest "
        "(root mean square difference of log spectrograms, best of shifts within ± 0.5 s): 100 % for copies.",
        compute=violation_rate,
    ),
    Metric(
        name="nn-ratio",
        title="Distance to training",
        question="copies",
        better="larger",
        offset=0.01,
        against_train=nearest_in,
        definition="Median distance to the nearest training window, as for AuthViol; its floor is that of real people "
        "who were not trained on.",
        compute=nearest_distance,
    ),
)
