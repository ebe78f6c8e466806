"""What staging a recording takes and gives.

Worker processes import this module, so it imports neither PyTorch nor the representations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from signal_diffusion.data.preparing.event_windows import EventWindows
from signal_diffusion.data.preparing.labelling import Labelling
from signal_diffusion.data.recordings.reading import Reading
from signal_diffusion.data.recordings.recording import Recording

__all__ = ["Progress", "Staged", "StagedRecordings", "Staging", "with_progress"]

Progress = Callable[[str, int, int], None]
"""Called with (name of the step, number done, total)."""


@dataclass(frozen=True, kw_only=True)
class Staging:
    """How to read a recording and which windows to keep; sent to the worker processes."""

    read: Callable[..., Reading]
    """`read(recording, output=path)` writes µV (channels, samples) float32 to an .npy file."""
    labelling: Labelling
    rate: float
    """Hz."""
    window: int
    overlap: float
    reject_above: float | None
    """Peak-to-peak amplitude, µV; None = the one that keeps 90 % of the windows that are not rejected otherwise."""
    events: EventWindows | None = None
    """Cut one window around each of these events; None = a fixed grid of windows."""


@dataclass(frozen=True, kw_only=True)
class Staged:
    """A recording with its signal on disk and its windows chosen."""

    recording: Recording
    path: Path
    starts: np.ndarray
    """First sample of each window (n,)."""
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    """Indices into `starts` (k,)."""
    labels: list[str | None] = field(default_factory=list)
    """Labels of the kept windows."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Number of rejected windows, by reason."""
    baseline: slice | None = None
    """Samples of each window whose mean is subtracted."""
    annotations: tuple[str, ...] = ()
    """Distinct descriptions of the recording's annotations, or codes of its events."""
    lengths: dict[str, float] = field(default_factory=dict)
    """Longest stretch of each annotation that can be a label, s."""
    given: frozenset[str] = frozenset()
    """Annotations that label a kept window."""
    instants: int = 0
    """Number of annotations without a duration that could be labels."""
    epochs: bool = False
    """Whether the file has epochs, which are not filtered."""
    why_empty: str = ""
    """Why it was not read, if that follows from its name."""
    extents: np.ndarray = field(default_factory=lambda: np.zeros(0))
    """Peak-to-peak amplitudes of the windows that are kept or rejected by their amplitude alone, µV."""
    mostly_flat: tuple[str, ...] = ()
    """Channels that are flat in more than half of the recording."""
    absent: tuple[str, ...] = ()
    """Channels of the dataset that the recording lacks."""
    lost_rows: tuple[str, ...] = ()
    """Rows of its events.tsv that have no onset."""
    digest: str = ""
    """Hash of the recording's samples."""


@dataclass(frozen=True, kw_only=True)
class StagedRecordings:
    """All recordings of a dataset, staged."""

    recordings: list[Staged]
    """Those with windows."""
    rejected: dict[str, int]
    """Number of rejected windows, by reason."""
    skipped: list[str]
    """"name: why" of the others."""
    reject_above: float
    """Peak-to-peak amplitude above which windows were rejected, µV."""
    notes: list[str]
    """What is said about labels, for the card."""


def with_progress(items: Sequence[Staged], what: str, progress: Progress) -> Iterable[Staged]:
    """Iterate over recordings and report progress."""
    for number, item in enumerate(items):
        progress(what, number, len(items))
        yield item
    progress(what, len(items), len(items))
