"""Baselines for missing stretches of time, each electrode for itself: linear interpolation, and autoregression."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.linalg import lstsq, toeplitz

from signal_diffusion.data.stretches import stretches

__all__ = ["ORDER", "autoregressive", "linear"]

ORDER = 32
"""Order of the autoregression; a quarter of the given samples, if that is less."""


def linear(signals: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Signals (N, electrodes, samples) with straight lines across the gaps."""
    found, times = signals.astype(np.float64), np.arange(signals.shape[-1])
    for row, absent in zip(found.reshape(-1, len(times)), missing.reshape(-1, len(times)), strict=True):
        row[absent] = np.interp(times[absent], times[~absent], row[~absent])
    return found


def autoregressive(signals: np.ndarray, missing: np.ndarray, order: int = ORDER) -> np.ndarray:
    """Signals (N, electrodes, samples) with missing stretches as an autoregressive process continues them.

    The coefficients are fitted by least squares to the given samples of the same electrode and window. The estimate is
    the process's conditional mean given what is on both sides, which at the end of a window is its forecast (Janssen,
    Veldhuis and Vries, Adaptive interpolation of discrete-time signals that can be modeled as autoregressive processes,
    IEEE Trans. ASSP 34, 1986).
    """
    found, samples = signals.astype(np.float64), signals.shape[-1]
    for row, absent in zip(found.reshape(-1, samples), missing.reshape(-1, samples), strict=True):
        if absent.any():
            coefficients = _coefficients(row, ~absent, min(order, int(np.count_nonzero(~absent)) // 4))
            row[absent] = _conditional_mean(row, absent, coefficients)
    return found


def _coefficients(signal: np.ndarray, given: np.ndarray, order: int) -> np.ndarray:
    """a of x_t = Σ a_k x_{t−k} + e_t, by least squares, forwards and backwards in time; (order,)."""
    parts = [signal[first:stop] for first, stop in stretches(given) if stop - first > order]
    if not parts:
        return np.zeros(order)
    windows = np.concatenate([sliding_window_view(each, order + 1) for part in parts for each in (part, part[::-1])])
    return lstsq(windows[:, -2::-1], windows[:, -1])[0]


def _conditional_mean(signal: np.ndarray, absent: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """The missing samples that minimise Σ e_t², (missing,)."""
    order, where = len(coefficients), np.flatnonzero(absent)
    near = slice(max(0, where[0] - order), where[-1] + order + 1)  # all errors that a missing sample has a part in
    signal, absent = signal[near], absent[near]
    errors = np.concatenate([-coefficients[::-1], [1.0]])  # e_t = errors · x_{t−order … t}
    rest = np.zeros(len(signal) - order - 1)
    matrix = toeplitz(np.r_[errors[0], rest], np.r_[errors, rest])  # (errors, samples)
    return lstsq(matrix[:, absent], -matrix[:, ~absent] @ signal[~absent])[0]
