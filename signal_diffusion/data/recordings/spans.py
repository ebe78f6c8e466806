"""Annotations, events and triggers of a recording, as spans of time."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import mne

__all__ = ["Span", "spans_of", "triggers"]

# Boundaries between joined pieces, in MNE, EEGLAB and BrainVision; and gaps in the acquisition that MNE filled.
_BOUNDARY = re.compile(r"((bad|edge)[ _]?)?boundary$|edge$|new segment/?$", re.IGNORECASE)
_GAP = re.compile(r"bad_acq_skip", re.IGNORECASE)
_BAD = re.compile(r"bad", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span of time that an annotation describes."""

    onset: float
    """Seconds from the first sample of the recording."""
    end: float
    description: str
    instant: bool = False
    """Whether it marks an event, and its end was assumed for lack of a duration."""
    ch_names: tuple[str, ...] = ()
    """Channels that it is about, by their names in the recording; () = all."""

    @property
    def bad(self) -> bool:
        """Whether it marks bad data or an interruption."""
        return self.interruption or _BAD.match(self.description.strip()) is not None

    @property
    def interruption(self) -> bool:
        """Whether the recording was interrupted here; filters and events do not extend across."""
        return any(pattern.match(self.description.strip()) for pattern in (_BOUNDARY, _GAP))


def spans_of(raw: mne.io.BaseRaw, samples_at_once: int, event_duration: float | None = None) -> tuple[Span, ...]:
    """List annotations by onset; if there are only bad ones, also the triggers of the stim channels.

    An event (a duration of at most one sample, and not bad) lasts until the next one, or until the recording is
    interrupted or ends, but no longer than `event_duration` seconds. Without `event_duration`, an event that no other
    follows lasts at most as long as the median interval between events, and 0 s if there is no other.
    """
    sfreq = float(raw.info["sfreq"])
    # Onsets count from the start of the acquisition; a cropped FIF starts at `first_samp`.
    before = raw.first_samp / sfreq
    marks = [
        _mark(onset - before, duration, str(name), tuple(map(str, channels)))
        for onset, duration, name, channels in zip(
            raw.annotations.onset.tolist(),
            raw.annotations.duration.tolist(),
            raw.annotations.description,
            raw.annotations.ch_names,
            strict=True,
        )
    ]
    if all(mark.bad for mark in marks):
        marks += triggers(raw, samples_at_once)
    events = sorted({mark.onset for mark in marks if _is_event(mark, sfreq)})
    usual = float(np.median(np.diff(events))) if len(events) > 1 else 0.0
    borders = sorted({*events, *(mark.onset for mark in marks if mark.interruption), int(raw.n_times) / sfreq})
    following, starts = dict(itertools.pairwise(borders)), set(events)

    def end_of(onset: float) -> float:
        end = following.get(onset, onset)
        if event_duration is not None:
            return min(end, onset + event_duration)
        return end if end in starts else min(end, onset + usual)

    def with_end(mark: Span) -> Span:
        return replace(mark, end=end_of(mark.onset), instant=event_duration is None) if _is_event(mark, sfreq) else mark

    return tuple(sorted(map(with_end, marks), key=lambda span: span.onset))


def _mark(onset: float, duration: float, description: str, ch_names: tuple[str, ...]) -> Span:
    # In EEGLAB, the duration of a boundary is the length of the removed data, which may be unknown (NaN).
    is_boundary = _BOUNDARY.match(description.strip())
    end = onset if is_boundary else onset + duration
    return Span(onset=onset, end=end, description=description, ch_names=ch_names)


def _is_event(mark: Span, sfreq: float) -> bool:
    return not mark.bad and mark.end - mark.onset < 1.5 / sfreq


def triggers(raw: mne.io.BaseRaw, samples_at_once: int) -> list[Span]:
    """Find where a stim channel increases, as `mne.find_events` does, without loading it whole."""
    import mne

    names = [raw.ch_names[index] for index in mne.pick_types(raw.info, meg=False, stim=True)]
    # Prefer the channel in which MNE combines all triggers, if it exists.
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
