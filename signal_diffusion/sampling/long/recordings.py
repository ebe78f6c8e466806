"""Generated recordings in memory or in a memory map: as arrays, and as MNE's objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.mne_objects import to_raw
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.sampling.drawing import requested_columns
from signal_diffusion.sampling.long.request import RecordingRequest

if TYPE_CHECKING:
    import mne

__all__ = ["Recordings", "lasting_columns"]

Annotation = tuple[float, float, str]
"""Onset and duration in s, and attribute/value."""


@dataclass(frozen=True, kw_only=True)
class Recordings:
    """N recordings of the same length, in the order of the request."""

    signals: np.ndarray
    """µV, (N, electrodes, samples), float32."""
    columns: dict[str, np.ndarray]
    """The conditions that do not change over time by attribute, (N,) each, with "" or NaN where left open."""
    request: RecordingRequest
    card: DatasetCard
    """Card of the dataset that the model was trained on."""

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self.signals)

    @property
    def sfreq(self) -> float:
        """Sampling rate, Hz."""
        assert self.card.sampling_rate is not None
        return self.card.sampling_rate

    @property
    def ch_names(self) -> list[str]:
        """Electrodes, in order."""
        return list(self.card.channels)

    @property
    def borders(self) -> list[int]:
        """Samples at which a window begins to add to the one before."""
        return [window.first for window in self.request.windows[1:]]

    def take(self, rows: Sequence[int]) -> Recordings:
        """Some of the recordings."""
        columns = {name: values[list(rows)] for name, values in self.columns.items()}
        return replace(self, signals=self.signals[list(rows)], columns=columns)

    def annotations(self, row: int) -> list[Annotation]:
        """The conditions of a recording, by onset: `label/rest`."""
        total = self.request.samples / self.sfreq
        lasting = {name: _text(values[row]) for name, values in self.columns.items()}
        found = [(0.0, total, f"{name}/{value}") for name, value in lasting.items() if value]
        for block in self.request.blocks:
            onset, duration = block.start / self.sfreq, (block.stop - block.start) / self.sfreq
            found += [(onset, duration, f"{name}/{value}") for name, value in block.values.items() if value]
        return found

    def to_raw(self, row: int) -> mne.io.RawArray:
        """A recording in volts, with the positions of its electrodes and its conditions as annotations."""
        import mne

        raw = to_raw(self.signals[row][None], replace(self.card, tmin=None))
        onsets, durations, texts = zip(*self.annotations(row), strict=True) if self.annotations(row) else ((), (), ())
        raw.set_annotations(mne.Annotations(onsets, durations, texts), verbose="error")
        return raw

    def to_raws(self) -> list[mne.io.RawArray]:
        """All recordings; see `to_raw`."""
        return [self.to_raw(row) for row in range(len(self))]


def lasting_columns(attributes: tuple[Attribute, ...], request: RecordingRequest) -> dict[str, np.ndarray]:
    """The conditions that do not change over time, as `Recordings` has them."""
    changing = request.timeline.attributes if request.timeline else ()
    columns = requested_columns(attributes, request.request.cond)
    return {name: values for name, values in columns.items() if name not in changing}


def _text(value: object) -> str:
    """A value of a column: "" if it is left open, numbers without trailing zeros."""
    if isinstance(value, str):
        return str(value)
    number = float(value)  # type: ignore[arg-type]
    return "" if np.isnan(number) else f"{number:g}"
