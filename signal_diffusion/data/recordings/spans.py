"""What a recording's annotations, events and triggers say, as stretches of time."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mne

__all__ = ["Span", "spans_of"]

# BAD as in MNE; the others mark where pieces were joined: in MNE, EEGLAB and BrainVision.
_BAD = re.compile(r"bad|(edge[ _]?)?boundary$|edge$|new segment/?$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of a recording that an annotation describes."""

    onset: float
    """Seconds from the recording's first sample."""
    end: float
    description: str

    @property
    def bad(self) -> bool:
        """Whether it says that nothing should be learnt from it, or that the recording was interrupted there."""
        return _BAD.match(self.description.strip()) is not None


def spans_of(raw: mne.io.BaseRaw, samples_at_once: int) -> tuple[Span, ...]:
    """List annotations by onset, or the triggers of the stim channels where there are no annotations.

    An event, with a duration of no more than a sample, lasts until the next one or the end of the recording;
    unless it is bad.
    """
    sfreq = float(raw.info["sfreq"])
    # Onsets count from where the acquisition began, which a cropped FIF keeps in `first_samp`.
    before = raw.first_samp / sfreq
    marks = [
        Span(onset=onset - before, end=onset - before + duration, description=str(name))
        for onset, duration, name in zip(
            raw.annotations.onset.tolist(),
            raw.annotations.duration.tolist(),
            raw.annotations.description,
            strict=True,
        )
    ] or _triggers(raw, samples_at_once)
    events = sorted({mark.onset for mark in marks if _is_event(mark, sfreq)})
    following = dict(itertools.pairwise([*events, int(raw.n_times) / sfreq]))
    spans = [
        Span(onset=mark.onset, end=following[mark.onset], description=mark.description)
        if _is_event(mark, sfreq)
        else mark
        for mark in marks
    ]
    return tuple(sorted(spans, key=lambda span: span.onset))


def _is_event(mark: Span, sfreq: float) -> bool:
    return not mark.bad and mark.end - mark.onset < 1.5 / sfreq


def _triggers(raw: mne.io.BaseRaw, samples_at_once: int) -> list[Span]:
    """Find where a stim channel rises, as `mne.find_events` does, without loading it whole."""
    import mne

    names = [raw.ch_names[index] for index in mne.pick_types(raw.info, meg=False, stim=True)]
    # MNE's summary of all triggers, where there is one.
    names = [name for name in ("STI101", "STI 014") if name in names][:1] or names
    spans = []
    for name in names:
        before: float | None = None
        for start in range(0, raw.n_times, samples_at_once):
            (data,) = raw.get_data(picks=[name], start=start, stop=start + samples_at_once, verbose="ERROR")
            values = np.abs(data.astype(np.int64))
            previous = np.concatenate([[values[0] if before is None else before], values[:-1]])
            for index in np.flatnonzero(values > previous):
                onset = (start + int(index)) / float(raw.info["sfreq"])
                spans.append(Span(onset=onset, end=onset, description=str(values[index])))
            before = values[-1]
    return spans
