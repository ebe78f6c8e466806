"""Windows that continue each other: each is generated given the end of the one before.

All windows start a quarter of a window before what is missing, also the last one: what it generates beyond the end is
dropped. So a longer recording begins with a shorter one of the same seed and conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from signal_diffusion.sampling.filling import CONTEXT, ROUGH, FillWindow, filled_window

__all__ = ["Continuation", "continuations", "continue_windows"]


@dataclass(frozen=True)
class Continuation:
    """A window of a long recording, in samples of the recording."""

    block: int
    """Number of the block that the window adds to."""
    start: int
    """First sample of the window."""
    first: int
    """First sample that it adds; before this, signals are there."""
    stop: int
    """End of what it adds; the rest of the window is dropped."""


def continuations(stops: Sequence[int], window: int) -> list[Continuation]:
    """The windows of a recording of blocks that end at `stops`, in order. No window adds to more than one block."""
    context, rough, found = int(window * CONTEXT), window // ROUGH, []
    for block, (first, stop) in enumerate(pairwise([0, *stops])):
        while first < stop:
            start = max(0, first - context)
            end = min(start + window - rough, stop)
            found.append(Continuation(block, start, first, end))
            first = end
    return found


def continue_windows(
    values: np.ndarray,
    windows: Sequence[Continuation],
    window: int,
    fill_window: Callable[[Continuation], FillWindow],
    *,
    on_window: Callable[[int], None] = lambda done: None,
) -> None:
    """Generate recordings in place.

    Parameters
    ----------
    values
        (draws, electrodes, samples), µV; may be a memory map.
    windows
        The windows of `continuations`.
    window
        Samples of a window.
    fill_window
        From a window to what generates it; the number that it passes on counts all windows from 0.
    on_window
        Called with the number of finished windows before each window and after the last; may raise.
    """
    for number, each in enumerate(windows):
        on_window(number)
        given = each.first - each.start
        known = np.zeros((values.shape[1], each.stop - each.start), dtype=bool)
        known[:, :given] = True
        part = values[:, :, each.start : each.stop]
        filled = filled_window(part, known, window, fill_window(each), number=number, start=each.start)
        values[:, :, each.first : each.stop] = filled[:, :, given:]
    on_window(len(windows))
