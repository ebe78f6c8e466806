"""What is known of a recording before it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Recording"]


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file of EEG, what is known about it before it is read."""

    path: Path
    recording: str
    """The file's path within its input: unique in a dataset."""
    subject: str
    dataset: str
    folder: str | None = None
    """In a plain folder, the folder directly under the input that the file lies in, if any."""
    task: str | None = None
    gender: str | None = None
    """`female` or `male` where the source says so in any usual way, else as it stands there."""
    health: str | None = None
    age: float | None = None
    """Years."""
    participant: dict[str, str] = field(default_factory=dict)
    """The person's row of the table of subjects, missing values left out."""
    bids: Any = None
    """The file's `mne_bids.BIDSPath`, where it lies in a BIDS folder."""
