"""Windows around events: the options `--events`, `--events-table`, `--tmin`, `--tmax` and `--baseline`."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from signal_diffusion.data.recordings.events import Event
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError, listed

__all__ = ["EventWindows", "baseline_samples", "check_codes", "parse_events", "read_events_table", "samples_of"]

logger = logging.getLogger(__name__)

Labels = Mapping[str, Mapping[str, str]]
"""Run → code → label; the run "" stands for every recording."""


@dataclass(frozen=True, kw_only=True)
class EventWindows:
    """One window per event."""

    labels: Labels
    rate: float
    """Hz."""
    first: int
    """First sample of a window, relative to its event; MNE's tmin, in samples."""
    window: int
    baseline: slice | None
    """Samples of the window whose mean is subtracted from each electrode."""

    @property
    def codes(self) -> frozenset[str]:
        """Every code that has a label in some run."""
        return frozenset(code for labels in self.labels.values() for code in labels)

    def why_not(self, recording: Recording) -> str | None:
        """Why a recording has no windows, if that follows from its name; otherwise None."""
        if _run_in(recording, self.labels) in self.labels:
            return None
        run = _run_of(recording)
        return f"run {run} is not in --events-table" if run else "its name has no run to look up in --events-table"

    def windows(
        self, recording: Recording, events: Sequence[Event], borders: Sequence[tuple[int, int]]
    ) -> tuple[np.ndarray, list[str], int]:
        """First sample (n,) and label of the windows, and how many would reach outside the recording or epoch.

        `borders` (first sample, end) are those of the recording, or of each epoch.
        """
        labels = self.labels[_run_in(recording, self.labels)]
        chosen = [(event, label) for event in events if (label := _label_of(event, labels)) is not None]
        starts = np.array([samples_of(event.onset, self.rate) + self.first for event, _ in chosen], dtype=int)
        firsts, ends = np.array(borders).T
        number = np.searchsorted(firsts, starts, side="right") - 1
        inside = (number >= 0) & (starts + self.window <= ends[number])
        return (
            starts[inside],
            [label for (_, label), whole in zip(chosen, inside, strict=True) if whole],
            int((~inside).sum()),
        )


def samples_of(seconds: float, rate: float) -> int:
    """Nearest sample to a time; from halves to the even one, as in MNE, so that events are not late on average."""
    return round(round(seconds * rate, 6))  # the inner one removes the error of the product, so that a half is a half


def baseline_samples(interval: tuple[float, float], rate: float, first: int, window: int) -> slice:
    """Samples of a window from `interval[0]` to `interval[1]` s after its event, both included, as in MNE."""
    start, last = (samples_of(time, rate) - first for time in interval)
    if not 0 <= start <= last <= window:
        raise UserError(
            f"baseline: {interval[0]:g} to {interval[1]:g} s is not an interval of the window, which is from "
            f"{first / rate:g} to {(first + window) / rate:g} s; choose one inside"
        )
    return slice(start, min(last + 1, window))


def parse_events(text: str) -> Labels:
    """Parse `left=T1,right=T2`, which gives each code a label; a label may have several codes."""
    labels: dict[str, str] = {}
    for part in text.split(","):
        label, _, code = (word.strip() for word in part.partition("="))
        if not label or not code:
            raise UserError(f"events: {part.strip()!r} is not LABEL=CODE; write --events left=T1,right=T2")
        _add(labels, code, label, "events")
    return {"": labels}


def read_events_table(path: Path) -> Labels:
    """Read a table (.csv, .tsv) with the columns run, event and label."""
    import pandas as pd

    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError, pd.errors.ParserError) as error:
        raise UserError(
            f"events_table: {path}: cannot be read ({error}); expected columns run, event, label"
        ) from error
    table.columns = [str(name).strip().lower() for name in table.columns]
    if not {"run", "event", "label"} <= set(table.columns):
        raise UserError(f"events_table: {path}: has columns {', '.join(table.columns)}; expected run, event, label")
    labels: dict[str, dict[str, str]] = {}
    rows = (map(str.strip, row) for row in table[["run", "event", "label"]].itertuples(index=False, name=None))
    for number, (run, code, label) in enumerate(rows, start=2):
        if not (run and code and label):
            raise UserError(f"events_table: {path}: line {number} has an empty cell; fill in run, event and label")
        _add(labels.setdefault(_canonical(run), {}), code, label, f"events_table: {path}: run {run}")
    if not labels:
        raise UserError(f"events_table: {path}: has no rows; expected run, event, label")
    return labels


def check_codes(labels: Labels, found: Sequence[tuple[Recording, Collection[str]]]) -> None:
    """Raise a `UserError` for a code that occurs in no recording of its run; warn about runs without recordings.

    `found` has the codes in each recording that was read.
    """
    of_run: dict[str, set[str]] = {}
    for recording, codes in found:
        of_run.setdefault(_run_in(recording, labels), set()).update(codes)
    for run, wanted in labels.items():
        if run not in of_run:
            continue
        where = f"events_table: run {run}" if run else "events"
        if missing := [code for code in wanted if code not in of_run[run]]:
            raise UserError(
                f"{where}: no recording has an event {', '.join(missing)}; "
                f"found {listed(sorted(of_run[run]), 20) or 'no events'}"
            )
    if absent := [run for run in labels if run not in of_run]:
        logger.warning(
            "events_table: %d of %d runs have no recording: %s; a run is found as run-3 or R03 in a file's name",
            len(absent), len(labels), listed(absent),
        )  # fmt: skip


def _add(labels: dict[str, str], code: str, label: str, where: str) -> None:
    if labels.setdefault(code, label) != label:
        raise UserError(f"{where}: {code} is both {labels[code]} and {label}; choose one")


def _label_of(event: Event, labels: Mapping[str, str]) -> str | None:
    found = {labels[code]: code for code in event.codes if code in labels}
    if len(found) > 1:
        raise UserError(
            f"the event at {event.onset:g} s has the codes {' and '.join(found.values())}, "
            f"which are both {' and '.join(found)}; name only one of the codes"
        )
    return next(iter(found), None)


def _run_in(recording: Recording, labels: Labels) -> str:
    return "" if "" in labels else _run_of(recording)


def _run_of(recording: Recording) -> str:
    """Run of a recording: the entity `run-`, or a part of the file's name such as R03; "" if there is none."""
    named = re.findall(r"(?<![a-z])(?:run[-_ ]?|r)(\d+)(?![a-z0-9])", recording.path.stem, re.IGNORECASE)
    return _canonical(getattr(recording, "run", None) or (named[-1] if named else ""))


def _canonical(run: str) -> str:
    """Number of a run without its prefix and leading zeros: run-03, R03, 03 → 3."""
    return re.sub(r"^(?:run[-_ ]?|r)?0*(?=\d+$)", "", run.strip(), flags=re.IGNORECASE)
