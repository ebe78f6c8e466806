"""Times of a recording to restore: its date, and its gaps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mne

__all__ = ["merged_gaps", "start_of"]

YEARS = range(1985, 2038)
"""That both EDF and FIF can store."""


def start_of(raw: mne.io.BaseRaw) -> datetime | None:
    """Date and time of the first sample; None if there is none, or one that EDF or FIF cannot store."""
    if (date := raw.info["meas_date"]) is None:
        return None
    start: datetime = date + timedelta(seconds=raw.first_time)  # a cropped FIF has the date of the whole
    return start if start.year in YEARS else None


def merged_gaps(gaps: Sequence[tuple[float, float]], sfreq: float) -> tuple[tuple[float, float], ...]:
    """Gaps sorted; those that overlap or touch are one."""
    merged: list[tuple[float, float]] = []
    for start, stop in sorted(gaps):
        if merged and start <= merged[-1][1] + 1 / sfreq:
            start, stop = merged[-1][0], max(stop, merged.pop()[1])
        merged.append((start, stop))
    return tuple(merged)
