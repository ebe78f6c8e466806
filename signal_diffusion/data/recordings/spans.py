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

# Where pieces were joined, in MNE, EEGLAB and BrainVision; and where MNE filled a gap in the acquisition.
_CUT = re.compile(r"((bad|edge)[ _]?)?boundary$|edge$|new segment/?$", re.IGNORECASE)
_SKIP = re.compile(r"bad_acq_skip", re.IGNORECASE)
_BAD = re.compile(r"bad", re.IGNORECASE)


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
        return self.join or _BAD.match(self.description.strip()) is not None

    @property
    def join(self) -> bool:
        """Whether it says that the recording was interrupted there: neither filters nor events reach across."""
        return any(pattern.match(self.description.strip()) for pattern in (_CUT, _SKIP))


def spans_of(raw: mne.io.BaseRaw, samples_at_once: int) -> tuple[Span, ...]:
    """List annotations by onset; where none but bad ones are there, also the triggers of the stim channels.

    An event, with a duration of no more than a sample, lasts until the next one, or until the recording is interrupted
    or ends; unless it is bad.
    """
    sfreq = float(raw.info["sfreq"])
    # Onsets count from where the acquisition began, which a cropped FIF keeps in `first_samp`.
    before = raw.first_samp / sfreq
    marks = [
        _mark(onset - before, duration, str(name))
        for onset, duration, name in zip(
            raw.annotations.onset.tolist(),
            raw.annotations.duration.tolist(),
            raw.annotations.description,
            strict=True,
        )
    ]
    if all(mark.bad for mark in marks):
        marks += _triggers(raw, samples_at_once)
    borders = sorted({mark.onset for mark in marks if mark.join or _is_event(mark, sfreq)})
    following = dict(itertools.pairwise([*borders, int(raw.n_times) / sfreq]))
    spans = [
        Span(onset=mark.onset, end=following[mark.onset], description=mark.description)
        if _is_event(mark, sfreq)
        else mark
        for mark in marks
    ]
    return tuple(sorted(spans, key=lambda span: span.onset))


def _mark(onset: float, duration: float, description: str) -> Span:
    # To EEGLAB, a boundary lasts as long as what was cut out there, which may be unknown (NaN).
    instant = _CUT.match(description.strip())
    return Span(onset=onset, end=onset if instant else onset + duration, description=description)


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
