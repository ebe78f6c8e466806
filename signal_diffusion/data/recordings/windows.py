"""Cut continuous signals into windows, reject bad windows, and label them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from signal_diffusion.data.recordings.spans import Span

__all__ = ["cut", "flat_stretches", "kept_windows", "label_windows", "longest", "window_starts", "windows_in"]

_WINDOWS_AT_ONCE = 16


def window_starts(num_samples: int, window: int, overlap: float) -> np.ndarray:
    """First sample of each whole window (n,); neighbours share the fraction `overlap`, in [0, 1)."""
    step = max(1, round(window * (1 - overlap)))
    return np.arange(0, num_samples - window + 1, step)


def cut(signal: np.ndarray, starts: Sequence[int] | np.ndarray, window: int) -> np.ndarray:
    """Copy windows from a signal: (channels, samples) → (n, channels, window)."""
    return np.stack([signal[:, start : start + window] for start in starts])


def flat_stretches(signal: np.ndarray, borders: np.ndarray, threshold: float) -> np.ndarray:
    """Whether a channel has a peak-to-peak amplitude below `threshold` in a stretch: (channels, n) bool.

    `borders` (n + 1,) are increasing samples; stretch i is from border i up to border i + 1. Use it on the raw
    recording: filters add ringing, and an average reference puts the other channels' signal on a dead channel.
    """
    if len(borders) < 2:
        return np.zeros((len(signal), 0), dtype=bool)
    inside, starts = signal[:, : borders[-1]], borders[:-1]
    extent = np.maximum.reduceat(inside, starts, axis=1) - np.minimum.reduceat(inside, starts, axis=1)
    return extent < threshold


def windows_in(
    path: Path, starts: np.ndarray, window: int, baseline: slice | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield windows (n, channels, window) of an .npy file (channels, samples), in parts, with their slice of `starts`.

    The mean of the samples `baseline` of each window is subtracted from each channel, if given. The file is mapped
    again for each part, so that pages of a day-long recording do not accumulate in memory.
    """
    for start in range(0, len(starts), _WINDOWS_AT_ONCE):
        part = slice(start, start + _WINDOWS_AT_ONCE)
        windows = cut(np.load(path, mmap_mode="r"), starts[part], window)
        if baseline is not None:
            windows -= windows[..., baseline].mean(axis=-1, keepdims=True)
        yield part, windows


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
    """Choose the windows to keep; `extents` (n,) are their largest peak-to-peak amplitudes of a channel, µV.

    A window is rejected if it touches a second that is `flat` (seconds,), if it touches a `bad` span (from, to; in
    seconds; a span of length zero must be inside), or if its extent is above `peak_to_peak` µV.
    Returns the kept indices into `starts`, and the number of rejected windows by reason (the first that applies).
    """
    is_flat = np.array(
        [flat[int(start // sfreq) : int(np.ceil((start + window) / sfreq))].any() for start in starts],
        dtype=bool,
    )
    is_bad = np.zeros(len(starts), dtype=bool)
    for onset, end in bad:
        # Tolerance for the rounding of times: a window may end where a bad span begins.
        is_bad |= (starts < max(end, onset) * sfreq - 1e-6) & (starts + window > onset * sfreq + 1e-6)
    is_large = extents > peak_to_peak
    rejected = {
        "flat": int(is_flat.sum()),
        "annotation": int((is_bad & ~is_flat).sum()),
        "amplitude": int((is_large & ~is_bad & ~is_flat).sum()),
    }
    return np.flatnonzero(~is_flat & ~is_bad & ~is_large), rejected


def label_windows(
    starts: np.ndarray, window: int, sfreq: float, spans: Sequence[Span], names: Sequence[str] | None = None
) -> tuple[list[str | None], np.ndarray]:
    """Label each window with the annotation that covers most of it, unless that is less than half or there is a tie.

    Only annotations in `names` count (None = all), and bad ones never do. Returns the labels, None = no label, and
    whether it is for a tie: two annotations cover most of the window, equally to half a sample, (n,) bool.
    """
    usable = [span for span in spans if not span.bad]
    descriptions = list(names) if names is not None else sorted({span.description for span in usable})
    if not descriptions:
        return [None] * len(starts), np.zeros(len(starts), dtype=bool)
    first, last = starts / sfreq, (starts + window) / sfreq
    covered = np.stack(
        [_covered([span for span in usable if span.description == name], first, last) for name in descriptions]
    )  # (descriptions, windows), seconds
    best = covered.argmax(axis=0)
    # Tolerance for rounding of onsets: exactly half a window must count.
    enough = covered.max(axis=0) >= 0.5 * window / sfreq - 1e-6
    tied = enough & ((covered > covered.max(axis=0) - 0.5 / sfreq).sum(axis=0) > 1)
    return [descriptions[index] if one else None for index, one in zip(best, enough & ~tied, strict=True)], tied


def longest(spans: Sequence[Span]) -> dict[str, float]:
    """Longest stretch that each annotation covers without a gap, s; without bad ones."""
    names = sorted({span.description for span in spans if not span.bad})
    merged = {name: _merged([span for span in spans if span.description == name]) for name in names}
    return {name: max(end - onset for onset, end in stretches) for name, stretches in merged.items()}


def _merged(spans: Sequence[Span]) -> list[list[float]]:
    """Onset and end of each stretch that is covered by the spans."""
    merged: list[list[float]] = []
    for span in sorted(spans, key=lambda span: span.onset):
        if merged and span.onset <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], span.end)
        else:
            merged.append([span.onset, span.end])
    return merged


def _covered(spans: Sequence[Span], first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Length of each stretch (n,) covered by the union of the spans, in seconds."""
    merged = _merged(spans)
    if not merged:
        return np.zeros(len(first))
    borders = np.array(merged)  # (m, 2)
    before = np.concatenate([[0.0], np.cumsum(borders[:, 1] - borders[:, 0])])
    # Covered length up to a time: slope 1 inside a span, constant between spans.
    total = np.stack([before[:-1], before[1:]], axis=1).ravel()
    return np.interp(last, borders.ravel(), total) - np.interp(first, borders.ravel(), total)
