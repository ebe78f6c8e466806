"""Events of a recording: when each happened, and the codes that name it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.recordings.edf import stretches_of
from signal_diffusion.data.recordings.epochs import epoch_events
from signal_diffusion.data.recordings.spans import Span, triggers
from signal_diffusion.errors import UserError, one_line

if TYPE_CHECKING:
    import mne
    import pandas as pd

    from signal_diffusion.data.recordings.recording import Recording

__all__ = ["Event", "events_of", "events_table", "named_event", "rows_without_onset"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at one time."""

    onset: float
    """Seconds from the first sample of the recording."""
    codes: tuple[str, ...]
    """What it can be called, the full name first: `Stimulus/S  1`, `Stimulus`, `S  1`."""


def named_event(onset: float, name: str) -> Event:
    """Make an event that can be called by its name or by one part of it between slashes, as in MNE."""
    return Event(onset=onset, codes=tuple(dict.fromkeys((name, *name.split("/")))))


def events_of(
    recording: Recording, raw: mne.io.BaseRaw, spans: Sequence[Span], wanted: Collection[str], samples_at_once: int
) -> tuple[Event, ...]:
    """List events by onset, from events.tsv (`trial_type`, `value`), annotations and stim channels.

    Each code is taken from the first of these sources that has it, since sources often repeat each other. A source is
    read only if a `wanted` code is still missing. Epochs have one event each. Onsets may be between two samples of the
    recording.
    """
    if joined := epoch_events(raw):
        named = ((onset, named_event(onset, name).codes, code) for onset, name, code in joined)
        return tuple(Event(onset=onset, codes=tuple(dict.fromkeys((*names, code)))) for onset, names, code in named)
    found: list[Event] = []
    sfreq = float(raw.info["sfreq"])
    for source in (
        lambda: _in_table(recording),
        lambda: (named_event(_precise(span.onset, sfreq), span.description) for span in spans if not span.bad),
        lambda: (named_event(span.onset, span.description) for span in triggers(raw, samples_at_once)),
    ):
        known = {code for event in found for code in event.codes}
        if known.issuperset(wanted):
            break
        found += [event for event in source() if known.isdisjoint(event.codes)]
    return tuple(sorted(found, key=lambda event: event.onset))


def _precise(onset: float, sfreq: float) -> float:
    """Undo the rounding of an onset at a sample: FIF stores single precision, EDF few decimals."""
    nearest = round(onset * sfreq)
    return nearest / sfreq if abs(onset * sfreq - nearest) < 0.1 else onset


def _in_table(recording: Recording) -> Iterator[Event]:
    """Events of the BIDS table of a recording, if it has one; rows without an onset are left out."""
    path = events_table(recording)
    if path is None:
        return
    try:
        table = _read(path)
        table = table[~_onset_unknown(table)]
        onsets = table["onset"].astype(float).to_numpy()
    except (ValueError, KeyError) as error:
        raise UserError(f"{path.name}: expected a table with onsets in seconds ({error}); repair it") from error
    names = [table[name] if name in table else [""] * len(table) for name in ("trial_type", "value")]
    recorded = np.ones(len(onsets), dtype=bool)
    if stretches := stretches_of(recording.path):  # a time within a gap has no sample
        onsets, _, recorded = stretches.joined(onsets + stretches.onsets[0])
    for onset, there, *texts in zip(onsets.tolist(), recorded, *names, strict=True):
        # A column of whole numbers with missing values is often written as 1.0, 2.0, …
        codes = [re.sub(r"\.0+$", "", text.strip()) for text in texts]
        codes = [code for code in codes if code.lower() not in ("", "n/a", "nan")]
        if codes and there:
            yield Event(onset=onset, codes=tuple(dict.fromkeys(codes)))


def events_table(recording: Recording) -> Path | None:
    """The events.tsv next to a recording, by the rules of BIDS in a BIDS folder; None if there is none."""
    if recording.bids is not None:
        found = recording.bids.find_matching_sidecar(suffix="events", extension=".tsv", on_error="ignore")
        return None if found is None else Path(found)
    beside = recording.path.with_name(re.sub(r"_eeg\..*$", "_events.tsv", recording.path.name))
    return beside if beside != recording.path and beside.is_file() else None


def rows_without_onset(recording: Recording) -> tuple[str, ...]:
    """Rows of the events.tsv of a recording that have no onset, and so are left out: `…_events.tsv line 9`."""
    path = events_table(recording)
    if path is None:
        return ()
    table = _read(path)
    if "onset" not in table:
        return ()
    return tuple(f"{path.name} line {row + 2}" for row in np.flatnonzero(_onset_unknown(table)))


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
    except ValueError as error:  # pandas' errors are ValueErrors
        raise UserError(f"{path.name}: not a table of events ({one_line(error)[:100]}); repair it") from error


def _onset_unknown(table: pd.DataFrame) -> np.ndarray:
    return table["onset"].str.strip().str.lower().isin(["", "n/a", "nan"]).to_numpy()
