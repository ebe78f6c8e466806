"""Fill what is missing of long recordings, window by window: each window is generated given what is there by then.

So the windows of a draw continue each other: the beginning of each is the end of the one before, or what was recorded.
Nothing has to be averaged or faded, which would take power from signals that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

from signal_diffusion.data.stretches import stretches
from signal_diffusion.sampling.joining import generated_again, joined

__all__ = ["CONTEXT", "ROUGH", "FillWindow", "LongSignals", "fill", "filled_window", "windows_to_fill"]

CONTEXT = 1 / 4
"""Share of a window that is already there when the rest of it is generated, if there is so much before it."""
ROUGH = 50
"""A window has so many times as many samples as its end that is left to the next one: 80 ms of 4 s. It is rough, since
no further patch of the network overlaps it."""


class FillWindow(Protocol):
    """Generates the missing values of one window, for all draws."""

    def __call__(self, values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
        """The window (draws, electrodes, window), µV, of which `values` is given where `known` (electrodes, window).

        `number` counts the windows from 0; `start` is the window's first sample in the recording.
        """


class LongSignals(Protocol):
    """Draws of a recording: an array (draws, electrodes, samples), or what reads and writes the span [:, :, span]."""

    def __getitem__(self, key: tuple[slice, slice, slice], /) -> np.ndarray:
        """A part of all draws."""

    def __setitem__(self, key: tuple[slice, slice, slice], values: np.ndarray, /) -> None:
        """Replace a part of all draws."""


def fill(
    values: LongSignals,
    known: np.ndarray,
    window: int,
    fill_window: FillWindow,
    *,
    on_window: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Fill in the missing values in place; values that are known are never written.

    Parameters
    ----------
    values
        Draws of a recording, (draws, electrodes, samples), µV.
    known
        Bool (electrodes, samples): what all draws have in common because it was recorded, or generated before.
    window
        Samples of a window.
    on_window
        Called as `on_window(done, total)` before each window and after the last; may raise.
    """
    known = known.copy()
    spans = list(windows_to_fill(known, window))
    for number, (start, stop) in enumerate(spans):
        on_window(number, len(spans))
        span, kept = slice(start, start + window), slice(start, stop)
        filled = filled_window(values[:, :, span], known[:, span], window, fill_window, number=number, start=start)
        values[:, :, kept] = filled[:, :, : stop - start]
        known[:, kept] = True
    on_window(len(spans), len(spans))


def filled_window(
    values: np.ndarray, known: np.ndarray, window: int, fill_window: FillWindow, *, number: int, start: int
) -> np.ndarray:
    """The values (draws, electrodes, samples) with what is missing filled in, for a window or its beginning."""
    samples, again = known.shape[1], generated_again(known, window)
    padding = ((0, 0), (0, window - samples))
    values, known, again = np.pad(values, ((0, 0), *padding)), np.pad(known, padding), np.pad(again, padding)
    given = known & ~again
    generated = fill_window(np.where(given, values, 0), given, number=number, start=start)
    return joined(values, known, generated, again)[:, :, :samples]


def windows_to_fill(known: np.ndarray, window: int) -> Iterator[tuple[int, int]]:
    """First samples of the windows that cover all that is missing, and the ends of what is kept of them.

    A stretch that fits into a window with context on both sides is in its middle. A longer one starts after a quarter
    of the first window, and the windows after it overlap by as much. Where nothing is known for less than that, a
    window that sees only its beginning leaves it to the next one, which sees both sides.
    """
    samples, context, end = known.shape[1], int(window * CONTEXT), 0
    last = max(0, samples - window)
    gaps = [
        (first, stop)
        for first, stop in stretches(np.asarray(~known.any(axis=0)))
        if stop < samples and stop - first <= window - context
    ]
    for first, stop in stretches(np.asarray(~known.all(axis=0))):
        first = max(first, end)
        while first < stop:
            length = stop - first
            before = max(context, (window - length) // 2)
            start = min(max(0, first - before), last)
            end = min(start + window, samples)
            end -= window // ROUGH if end < stop else 0
            end = next((begin for begin, after in gaps if first < begin < end < after), end)
            yield start, end
            first = end
