"""Continuous signals cut into windows, and the windows that no model should learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["cut", "flat_seconds", "kept_windows", "window_starts"]


def window_starts(num_samples: int, window: int, overlap: float) -> np.ndarray:
    """List the first sample of each whole window (n,); neighbours share the fraction `overlap` in [0, 1)."""
    step = max(1, round(window * (1 - overlap)))
    return np.arange(0, num_samples - window + 1, step)


def cut(signal: np.ndarray, starts: Sequence[int] | np.ndarray, window: int) -> np.ndarray:
    """Copy windows out of a signal: (channels, samples) → (n, channels, window)."""
    return np.stack([signal[:, start : start + window] for start in starts])


def flat_seconds(signal: np.ndarray, sfreq: float, threshold: float) -> np.ndarray:
    """Tell the seconds, (seconds,) bool, in which some channel moves by less than `threshold`, its unit.

    To be asked of a recording as it came: filters leave ringing and an average reference puts everyone else's
    signal on a dead channel.
    """
    length = round(sfreq)
    seconds = signal.shape[1] // length
    blocks = signal[:, : seconds * length].reshape(len(signal), seconds, length)
    return (np.ptp(blocks, axis=-1) < threshold).any(axis=0)


def kept_windows(
    signal: np.ndarray,
    starts: np.ndarray,
    window: int,
    *,
    sfreq: float,
    peak_to_peak: float,
    flat: np.ndarray,
) -> tuple[np.ndarray, dict[str, int]]:
    """Choose the windows worth keeping.

    A window goes where it touches a flat second of `flat_seconds`, or where a channel spans more than
    `peak_to_peak` µV. Returns the indices into `starts` that stay, and how many went for which reason.
    """
    is_flat = np.array(
        [flat[int(start // sfreq) : int(np.ceil((start + window) / sfreq))].any() for start in starts],
        dtype=bool,
    )
    is_large = np.array(
        [np.ptp(signal[:, start : start + window], axis=1).max() > peak_to_peak for start in starts],
        dtype=bool,
    )
    rejected = {"flat": int(is_flat.sum()), "amplitude": int((is_large & ~is_flat).sum())}
    return np.flatnonzero(~is_flat & ~is_large), rejected
