"""Windows of EEG in microvolts, from whatever source: what every metric of this room takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.people import SUBJECT, OfPeople

if TYPE_CHECKING:
    import mne

    from signal_diffusion.evaluation.stored_spectrograms import Spectrograms

__all__ = ["SEGMENT", "SUBJECT", "Unavailable", "Windows"]

SEGMENT = 2.0
"""Length of the segments of Welch's method and of coherence, s."""


class Unavailable(Exception):  # noqa: N818 (a result, not an error)
    """A metric that cannot be computed of these windows, and why."""


@dataclass(frozen=True, kw_only=True)
class Windows(OfPeople):
    """N windows of the same electrodes, length and sampling rate; checked when it is made.

    Raises
    ------
    UserError
        If there is no window, the shapes contradict each other, or a value is not finite.
    """

    signals: np.ndarray
    """(N, electrodes, samples), float32, µV."""
    sfreq: float
    """Sampling rate, Hz."""
    ch_names: tuple[str, ...]
    """Electrodes, in order."""
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What is known of each window, (N,) each: `subject`, `label`, `gender`, `age`, …; "" or NaN where unknown."""
    name: str = "windows"
    """What messages call this set."""
    positions: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Electrode → (x, y, z) on the unit sphere, as far as known."""
    tmin: float | None = None
    """Time of the first sample relative to the window's event, s; None without events."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """How it was made, as far as known: `reference`, `band` and `inverse` (of the representation)."""
    spectrograms: Spectrograms | None = None
    """The spectrograms that the signals were made from, as they are stored; None of signals that were not."""

    def __post_init__(self) -> None:
        if not np.issubdtype(np.asarray(self.signals).dtype, np.number) or np.iscomplexobj(self.signals):
            raise UserError(
                f"{self.name}: signals of type {np.asarray(self.signals).dtype}; expected real numbers in µV"
            )
        signals = np.asarray(self.signals, np.float32)
        if signals.ndim != 3 or 0 in signals.shape:
            raise UserError(
                f"{self.name}: signals of shape {signals.shape}; expected at least one window, as (windows, "
                "electrodes, samples)"
            )
        if len(self.ch_names) != signals.shape[1]:
            raise UserError(
                f"{self.name}: {len(self.ch_names)} names of electrodes for signals with {signals.shape[1]} electrodes"
            )
        if len({*self.ch_names}) < len(self.ch_names):
            raise UserError(f"{self.name}: electrodes {listed(list(self.ch_names))}: a name occurs twice")
        if not (np.isfinite(self.sfreq) and self.sfreq > 0):
            raise UserError(f"{self.name}: a sampling rate of {self.sfreq} Hz; expected a positive number")
        finite = np.isfinite(signals).all(axis=(1, 2))
        if not finite.all():
            raise UserError(
                f"{self.name}: {(~finite).sum()} of {len(signals)} windows have values that are not finite "
                f"({listed([f'window {row}' for row in np.flatnonzero(~finite)])}); leave them out"
            )
        for column, values in self.columns.items():
            if len(values) != len(signals):
                raise UserError(f"{self.name}: column {column} has {len(values)} values for {len(signals)} windows")
        if self.spectrograms is not None and len(self.spectrograms) != len(signals):
            raise UserError(f"{self.name}: {len(self.spectrograms)} spectrograms for {len(signals)} windows")
        object.__setattr__(self, "signals", signals)
        object.__setattr__(self, "ch_names", tuple(self.ch_names))

    @classmethod
    def from_epochs(cls, epochs: mne.BaseEpochs, *, name: str = "epochs", **columns: Any) -> Self:
        """Windows of MNE epochs: their EEG channels in µV, with `metadata` and then `columns` as columns.

        Without a column `label`, the names of the events are the labels.
        """
        picked = epochs.copy().load_data().pick("eeg")
        names = {code: event for event, code in picked.event_id.items()}
        known: dict[str, Any] = {"label": [names[code] for code in picked.events[:, 2]]} if len(names) > 1 else {}
        known |= {} if picked.metadata is None else {key: picked.metadata[key] for key in picked.metadata}
        found = {
            channel: position / np.linalg.norm(position)
            for channel, position in (
                picked.get_montage().get_positions()["ch_pos"] if picked.get_montage() else {}
            ).items()
            if np.isfinite(position).all() and np.linalg.norm(position) > 0
        }
        return cls(
            signals=picked.get_data(units="µV"),
            sfreq=picked.info["sfreq"],
            ch_names=tuple(picked.ch_names),
            columns={key: np.asarray(values) for key, values in (known | columns).items()},
            name=name,
            positions=found,
            tmin=picked.tmin,
        )

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.signals)

    @property
    def seconds(self) -> float:
        """Length of a window."""
        return self.signals.shape[-1] / self.sfreq

    def column(self, name: str) -> np.ndarray | None:
        """A column of texts, (N,), "" where unknown; None if there is none."""
        values = self.columns.get(name)
        if values is None:
            return None
        return np.array(["" if each is None or each != each else str(each) for each in values])  # NaN is not itself

    def take(self, rows: Sequence[int] | np.ndarray) -> Self:
        """Some of the windows, in the given order."""
        rows = np.asarray(rows)
        columns = {key: np.asarray(values)[rows] for key, values in self.columns.items()}
        spectrograms = None if self.spectrograms is None else self.spectrograms.take(rows)
        return dataclasses.replace(self, signals=self.signals[rows], columns=columns, spectrograms=spectrograms)
