"""A recording and its attributes, before its signals are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Recording", "names_of"]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One EEG file, and what is known about it before its signals are read."""

    path: Path
    recording: str
    """Path of the file within its input; unique in a dataset."""
    subject: str
    dataset: str
    folder: str | None = None
    """In a plain folder: the folder directly under the input that contains the file, if any."""
    task: str | None = None
    session: str | None = None
    run: str | None = None
    acquisition: str | None = None
    gender: str | None = None
    """`female` or `male` if the source uses a common spelling, else as in the source."""
    health: str | None = None
    age: float | None = None
    """Years."""
    participant: dict[str, str] = field(default_factory=dict)
    """Row of the subject table, without missing values."""
    places: dict[str, tuple[Path, int]] = field(default_factory=dict)
    """Column of `participant` → the table and line that it was read from; the newest table last."""
    sfreq: float | None = None
    """Rate, Hz, of an array (.csv, .npy, …), as given; None = that of its time column, or of the file."""
    ch_names: tuple[str, ...] = ()
    """Names of an array's channels, as given; () = those in the file."""
    bids: Any = None
    """The file's `mne_bids.BIDSPath`, if it is in a BIDS folder."""


def names_of(recordings: Sequence[Recording]) -> list[str]:
    """Name of each recording for messages and the card; with several datasets, it starts with the dataset's."""
    several = len({recording.dataset for recording in recordings}) > 1
    return [f"{each.dataset}/{each.recording}" if several else each.recording for each in recordings]
