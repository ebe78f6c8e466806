"""How recordings are read and filtered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from signal_diffusion.data.recordings.filters import band_pass
from signal_diffusion.errors import UserError

__all__ = ["ReadOptions"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How to read and filter every recording of a dataset."""

    channels: tuple[str, ...]
    """Electrodes, or names of channels as in the files."""
    reference: str
    """`average` of `channels`, `none`, or the channels whose mean is subtracted: `A1,A2`."""
    band: tuple[float, float]
    """Edges of the band-pass, Hz."""
    notch: tuple[float, ...]
    """Frequencies to remove, Hz."""
    sampling_rate: float
    """Sampling rate of the dataset, Hz."""
    min_samples: int
    """Fewer samples, at `sampling_rate`, are an error."""
    flat_below: float
    """A channel with a smaller peak-to-peak amplitude within a second is flat, µV."""
    events: frozenset[str] = frozenset()
    """Codes of the events to find; empty = windows are not cut around events."""
    event_duration: float | None = None
    """Longest duration of events that have none, s; None = see `spans_of`."""
    interpolate: bool = False
    """Interpolate channels that a recording lacks from its other electrodes, instead of raising an error."""
    absent: bool = False
    """Write NaN for channels that a recording lacks, instead of raising an error."""
    volts_per_unit: float | None = None
    """Factor to V of the numbers in arrays, and of those that MNE reads from other files as V; None = the format's."""
    gaps: tuple[tuple[float, float], ...] = ()
    """Stretches of time that are not used, start and end in s; they must not touch. Filters see a straight line across
    them, so that what is in them does not change the rest."""

    def check(self) -> None:
        """Raise a `UserError` for an invalid reference or impossible filters, before any recording is read."""
        if self.reference not in ("average", "none") and not self.reference.strip(" ,"):
            raise UserError("reference: no channel named; use average, none, or channels such as A1,A2")
        self.kernel()

    def kernel(self) -> np.ndarray:
        """The zero-phase filter (taps,) of `band` and `notch`; a `UserError` if there is none."""
        return band_pass(self.sampling_rate, self.band, self.notch)
