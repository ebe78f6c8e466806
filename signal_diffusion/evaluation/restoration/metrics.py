"""Metrics of restored values: of the mean of several draws, of their powers, and of their spread.

For one estimate instead of draws, the same metrics with K = 1; the coverage is NaN then, and the CRPS is the mean
absolute error.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import periodogram

from signal_diffusion.data.bands import BANDS
from signal_diffusion.evaluation.reconstruction import FLAT

__all__ = ["COVERED", "LEAST_DRAWS", "METRICS", "POWER", "covered", "crps", "scores_of"]

METRICS = {
    "nmse": "NMSE",
    "correlation": "correlation",
    "band_error": "band power, dB",
    "coverage": "80 % covers",
    "crps": "CRPS, µV",
}
"""Name → title in tables."""
POWER = "power"
"""What weights the NMSE of windows, so that that of a person is Σ(x − m)² / Σx² over all of the person's windows."""
COVERED = 0.8
"""Probability of the interval whose coverage is measured."""
LEAST_DRAWS = 9
"""Draws for that interval: the smallest and the largest of nine contain another value with probability 0.8."""


def scores_of(truth: np.ndarray, draws: np.ndarray, missing: np.ndarray, sfreq: float) -> dict[str, np.ndarray]:
    """The metrics of each window, and its `power`, the mean of x² in µV²; (N,) each, NaN where a window has none.

    - `nmse`: Σ(x − m)² / Σx² over the missing values x, with the mean m of the draws.
    - `correlation`: Pearson correlation of x and m over time, mean over electrodes; 0 if m is constant.
    - `band_error`: absolute difference in dB of the band power of x and of the draws (their mean in dB), from the
      periodograms of the missing stretch (Hann), mean over electrodes and those bands that have a frequency; powers
      below FLAT² µV² count as FLAT² µV².
    - `coverage`: how many values are within the 80 % interval of the draws, see `covered`.
    - `crps`: see `crps`, µV.

    Parameters
    ----------
    truth
        (N, electrodes, samples), µV.
    draws
        (K, N, electrodes, samples), µV.
    missing
        Bool (N, electrodes, samples): the same stretch of time of some electrodes in each window.
    """
    found = []
    for number, mask in enumerate(missing):
        where = np.ix_(mask.any(axis=1), mask.any(axis=0))
        assert mask[where].all(), "not the same stretch of time of each electrode"
        found.append(_of_window(truth[number][where], np.stack([draw[number][where] for draw in draws]), sfreq))
    return {name: np.array([each[name] for each in found]) for name in (*METRICS, POWER)}


def covered(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """How much the 80 % interval of draws (K, …) contains each value (…): 0, 1, or a share on the edge of it.

    If value and draws have one distribution, the value's rank among K draws is uniform, and it is between the j-th
    smallest and the j-th largest with probability 1 − 2j/(K + 1). That is 0.8 for j = (K + 1)/10; between two whole j,
    the wider interval counts with the weight that makes it 0.8 in expectation. NaN for fewer than nine draws.
    """
    count = len(draws)
    if count < LEAST_DRAWS:
        return np.full(truth.shape, np.nan)
    depth = np.minimum((draws < truth).sum(0), (draws > truth).sum(0))
    return np.clip(depth + 1 - (1 - COVERED) / 2 * (count + 1), 0, 1)


def crps(truth: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of each value (…), µV: E|y − x| − E|y − y'|/2 over the draws (K, …).

    The fair estimator, without bias by the number of draws (Ferro, Fair scores for ensemble forecasts, Q. J. R.
    Meteorol. Soc. 140, 2014).
    """
    count = len(draws)
    error = np.abs(draws - truth).mean(0)
    if count == 1:
        return error
    weights = 2 * np.arange(1, count + 1) - count - 1  # Σ_{k<l} |y_k − y_l| = Σ weights · sorted draws
    return error - np.tensordot(weights, np.sort(draws, axis=0), 1) / (count * (count - 1))


def _of_window(truth: np.ndarray, draws: np.ndarray, sfreq: float) -> dict[str, float]:  # (e, t), (K, e, t)
    truth, draws = truth.astype(np.float64), draws.astype(np.float64)
    mean, power = draws.mean(0), np.square(truth).mean()
    return {
        POWER: power,
        "nmse": np.square(truth - mean).mean() / power if power > 0 else np.nan,
        "correlation": _correlation(truth, mean).mean(),
        "band_error": np.abs(_levels(draws, sfreq).mean(0) - _levels(truth, sfreq)).mean(),
        "coverage": covered(truth, draws).mean(),
        "crps": crps(truth, draws).mean(),
    }


def _correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:  # (e, t) → (e,), 0 if one is constant
    first, second = (each - each.mean(-1, keepdims=True) for each in (first, second))
    size = np.sqrt(np.square(first).sum(-1) * np.square(second).sum(-1))
    product = (first * second).sum(-1)
    return np.divide(product, size, out=np.zeros_like(product), where=size > 1e-12)


def _levels(signals: np.ndarray, sfreq: float) -> np.ndarray:  # (…, t) → dB (…, bands)
    """Power of each band that has a frequency of the periodogram; NaN if none has."""
    frequencies, density = periodogram(signals, sfreq, window="hann", detrend="constant")
    inside = [(frequencies >= low) & (frequencies < high) for low, high in BANDS.values()]
    powers = [density[..., each].sum(-1) * sfreq / signals.shape[-1] for each in inside if each.any()]
    if not powers:
        return np.full((*signals.shape[:-1], 1), np.nan)
    return 10 * np.log10(np.maximum(np.stack(powers, -1), FLAT**2))
