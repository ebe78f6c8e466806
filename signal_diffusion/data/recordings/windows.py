"""Continuous signals cut into windows, and the windows that no model should learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from signal_diffusion.data.recordings.spans import Span

__all__ = ["cut", "flat_stretches", "kept_windows", "label_windows", "window_starts", "windows_in"]

_WINDOWS_AT_ONCE = 16


def window_starts(num_samples: int, window: int, overlap: float) -> np.ndarray:
    """List the first sample of each whole window (n,); neighbours share the fraction `overlap` in [0, 1)."""
    step = max(1, round(window * (1 - overlap)))
    return np.arange(0, num_samples - window + 1, step)


def cut(signal: np.ndarray, starts: Sequence[int] | np.ndarray, window: int) -> np.ndarray:
    """Copy windows out of a signal: (channels, samples) → (n, channels, window)."""
    return np.stack([signal[:, start : start + window] for start in starts])


def flat_stretches(signal: np.ndarray, borders: np.ndarray, threshold: float) -> np.ndarray:
    """Tell the stretches in which some channel moves by less than `threshold`, its unit.

    `borders` (n + 1,) are increasing samples; stretch i is from border i up to border i + 1; returns (n,) bool. To be
    asked of a recording as it came: filters leave ringing and an average reference puts everyone else's signal
    on a dead channel.
    """
    if len(borders) < 2:
        return np.zeros(0, dtype=bool)
    inside, starts = signal[:, : borders[-1]], borders[:-1]
    extent = np.maximum.reduceat(inside, starts, axis=1) - np.minimum.reduceat(inside, starts, axis=1)
    return np.any(extent < threshold, axis=0)


def windows_in(path: Path, starts: np.ndarray, window: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Read windows (n, channels, window) of an .npy of (channels, samples), some at a time, and which they are.

    The file is mapped anew each time, so that the pages of a whole day do not pile up in memory.
    """
    for start in range(0, len(starts), _WINDOWS_AT_ONCE):
        part = slice(start, start + _WINDOWS_AT_ONCE)
        yield part, cut(np.load(path, mmap_mode="r"), starts[part], window)


def kept_windows(
    extents: np.ndarray,
    starts: np.ndarray,
    window: int,
    *,
    sfreq: float,
    peak_to_peak: float,
    flat: np.ndarray,
    bad: Sequence[tuple[float, float]] = (),
) -> tuple[np.ndarray, dict[str, int]]:
    """Choose the windows worth keeping, of which `extents` (n,) are the largest spans of a channel, µV.

    A window goes where it touches a second that is `flat` (seconds,), where it touches a `bad` stretch (from, to; in
    seconds; one without length has to lie inside), or where a channel spans more than `peak_to_peak` µV.
    Returns the indices into `starts` that stay, and how many went for which reason, the first that holds.
    """
    is_flat = np.array(
        [flat[int(start // sfreq) : int(np.ceil((start + window) / sfreq))].any() for start in starts],
        dtype=bool,
    )
    is_bad = np.zeros(len(starts), dtype=bool)
    for onset, end in bad:
        is_bad |= (starts < max(end, onset) * sfreq) & (starts + window > onset * sfreq)
    is_large = extents > peak_to_peak
    rejected = {
        "flat": int(is_flat.sum()),
        "annotation": int((is_bad & ~is_flat).sum()),
        "amplitude": int((is_large & ~is_bad & ~is_flat).sum()),
    }
    return np.flatnonzero(~is_flat & ~is_bad & ~is_large), rejected


def label_windows(
    starts: np.ndarray, window: int, sfreq: float, spans: Sequence[Span], names: Sequence[str] | None = None
) -> list[str | None]:
    """Label each window with what the annotations say of most of it; None where that is less than half.

    Only annotations in `names` count (None = all), and none that mark something bad. Where two cover as much,
    the first in `names`, or in the alphabet, wins.
    """
    usable = [span for span in spans if not span.bad]
    descriptions = list(names) if names is not None else sorted({span.description for span in usable})
    if not descriptions:
        return [None] * len(starts)
    first, last = starts / sfreq, (starts + window) / sfreq
    covered = np.stack(
        [_covered([span for span in usable if span.description == name], first, last) for name in descriptions]
    )  # (descriptions, windows), seconds
    best = covered.argmax(axis=0)
    # Onsets are decimal fractions; half of a window must not be missed by rounding.
    enough = covered.max(axis=0) >= 0.5 * window / sfreq - 1e-6
    return [descriptions[index] if half else None for index, half in zip(best, enough, strict=True)]


def _covered(spans: Sequence[Span], first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Measure how much of each stretch (n,) lies in the union of the spans, in the spans' unit."""
    merged: list[list[float]] = []
    for span in sorted(spans, key=lambda span: span.onset):
        if merged and span.onset <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], span.end)
        else:
            merged.append([span.onset, span.end])
    if not merged:
        return np.zeros(len(first))
    borders = np.array(merged)  # (m, 2)
    before = np.concatenate([[0.0], np.cumsum(borders[:, 1] - borders[:, 0])])
    # What lies in the union up to a time: grows with slope 1 inside a span, stands still between two.
    total = np.stack([before[:-1], before[1:]], axis=1).ravel()
    return np.interp(last, borders.ravel(), total) - np.interp(first, borders.ravel(), total)
