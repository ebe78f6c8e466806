"""A restored recording: its draws, their mean and spread, as arrays and as MNE objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.mne_objects import to_raw
from signal_diffusion.data.recordings.spans import Span
from signal_diffusion.data.stretches import stretches
from signal_diffusion.sampling.restoring.draws import Draws
from signal_diffusion.sampling.restoring.plan import Plan

if TYPE_CHECKING:
    import mne

__all__ = ["RESTORED", "Restoration"]

RESTORED = "restored"
"""Annotation of what was restored."""
CHUNK = 2**20
"""Values of all draws that are in memory at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Restoration:
    """A recording of which missing values were generated several times, each a draw.

    What was given is the same in all draws, to the bit. Signals are in the model's reference, and at the rate of the
    recording, to which what was restored is resampled; `at_model_rate` has the same before that.
    """

    plan: Plan
    """What was given and what was restored."""
    card: DatasetCard
    """The card of the model's dataset."""
    known: np.ndarray
    """Where values are given, (the model's channels, samples) bool."""
    values: Draws
    """All draws, µV (draws, the model's channels, samples), on disk."""
    spans: tuple[Span, ...]
    """Annotations of the recording."""
    about: Mapping[str, Any]
    """How it was made: model, settings, recording."""
    resampled_from: Restoration | None = None
    """The same at the model's rate; None if this is."""

    @property
    def at_model_rate(self) -> Restoration:
        """The same at the model's rate, at which values were generated; itself if the recording has this rate."""
        return self.resampled_from or self

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Electrodes, in the model's order."""
        return self.plan.written

    @property
    def shape(self) -> tuple[int, int]:
        """Electrodes and samples."""
        return len(self.ch_names), self.known.shape[1]

    @property
    def missing(self) -> np.ndarray:
        """What was restored, (electrodes, samples) bool."""
        return np.asarray(~self.known[self._rows])

    @property
    def mean(self) -> mne.io.RawArray:
        """The mean of the draws: the best estimate, but with less power than EEG where it is uncertain."""
        return self.raw(self.statistic(lambda draws: draws.mean(axis=0)))

    @property
    def std(self) -> mne.io.RawArray:
        """The standard deviation of the draws, V; 0 where values are given."""
        return self.raw(self.statistic(lambda draws: draws.std(axis=0, ddof=1), elsewhere=0.0))

    @property
    def draws(self) -> list[mne.io.RawArray]:
        """All draws, each a signal as the model expects it; in memory at once, see `draw`."""
        return [self.draw(number) for number in range(self.values.count)]

    def draw(self, number: int) -> mne.io.RawArray:
        """One draw, which depends only on the seed and its number, not on how many there are."""
        return self.raw(self.signal(number))

    def signal(self, number: int) -> np.ndarray:
        """One draw, µV (electrodes, samples)."""
        return self.statistic(lambda draws: draws[0], draws=slice(number, number + 1))

    def statistic(
        self,
        of: Callable[[np.ndarray], np.ndarray],
        *,
        draws: slice = slice(None),
        elsewhere: float | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """A function of these draws, (draws, electrodes, n) → (electrodes, n), over all samples, float32.

        It is called for one part of the recording after the other. Where values are given, the result is those, to the
        bit, or `elsewhere`. `out` is the array to write it to, such as a memory map.
        """
        result = np.empty(self.shape, np.float32) if out is None else out
        for span in self.parts():
            values, known = self.values[draws, :, span][:, self._rows], self.known[self._rows, span]
            result[:, span] = np.where(known, values[0] if elsewhere is None else elsewhere, of(values))
        return result

    def parts(self) -> Iterator[slice]:
        """Spans of samples of which all draws fit into memory."""
        size = max(1, CHUNK // (self.values.count * len(self.known)))
        for start in range(0, self.known.shape[1], size):
            yield slice(start, start + size)

    def raw(self, signal: np.ndarray, *, out: np.ndarray | None = None) -> mne.io.RawArray:
        """A signal (electrodes, samples) in µV as an MNE object, with annotations.

        These are the recording's, except those of channels that are left out only; and "restored" over each stretch
        that was restored: with the names of the electrodes, or without names where it is all of them. `out` is a
        float64 array to store its values in, V, such as a memory map.
        """
        import mne

        volts = np.empty(signal.shape) if out is None else out
        for span in self.parts():
            np.multiply(signal[:, span], 1e-6, out=volts[:, span], dtype=np.float64)
        # `to_raw` takes what the electrodes are from the card.
        card = replace(self.card, channels=self.ch_names, sampling_rate=self.plan.sfreq)
        raw = mne.io.RawArray(volts, to_raw(signal[None, :, :1], card).info, verbose="error")
        raw.set_meas_date(self.plan.start)
        own = [
            (
                span.onset,
                0.0 if span.instant else span.end - span.onset,
                span.description,
                self.plan.written_of(span.ch_names),
            )
            for span in self.spans
            if not span.ch_names or self.plan.written_of(span.ch_names)
        ]
        marks = [*own, *((onset, duration, RESTORED, names) for onset, duration, names in self.stretches())]
        onsets, durations, texts, names = zip(*marks, strict=True) if marks else ((), (), (), ())
        raw.set_annotations(mne.Annotations(onsets, durations, texts, ch_names=list(names)), verbose="error")
        return raw

    def stretches(self) -> list[tuple[float, float, tuple[str, ...]]]:
        """Onset and duration in s, and electrodes of what was restored; () = all electrodes."""
        found = []
        sfreq, total = self.plan.sfreq, self.known.shape[1]
        if self.plan.restored:
            found.append((0.0, total / sfreq, self.plan.restored))
        everything = ~self.known[self._rows].any(axis=0)
        return found + [(first / sfreq, (stop - first) / sfreq, ()) for first, stop in stretches(everything)]

    @property
    def _rows(self) -> list[int]:
        """Rows of the electrodes among the model's channels."""
        return [self.plan.channels.index(name) for name in self.ch_names]
