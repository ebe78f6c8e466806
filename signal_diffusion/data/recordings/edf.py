"""What MNE-Python does not say of EDF and BDF files: rates, whether the header is complete, gaps between records.

Format: Kemp and Olivan 2003, "European data format 'plus' (EDF+)", https://www.edfplus.info/specs/edfplus.html.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = ["Stretches", "channel_rates", "length_unknown", "mark_gaps", "stretches_of"]

_ONSET = re.compile(rb"[+-]\d+(\.\d*)?")  # of a record: the first annotation in it


@dataclass(frozen=True, kw_only=True)
class _Header:
    """The entries that are needed here."""

    kind: bytes
    """`EDF+D` or `BDF+D` if there may be gaps between the records."""
    num_bytes: int
    num_records: int
    """−1 if the file was not closed."""
    duration: float
    """Of a record, s."""
    labels: list[bytes]
    samples: list[int]
    """Samples per record of each signal."""


def channel_rates(path: Path, raw: mne.io.BaseRaw) -> list[float] | None:
    """Rate of each channel, Hz, of an EDF or BDF with several rates; None otherwise."""
    if not _is_edf(path):
        return None
    header = _read_header(path)
    own = [each for label, each in zip(header.labels, header.samples, strict=True) if b"Annotations" not in label]
    if len(own) != len(raw.ch_names) or len(set(own)) == 1 or not header.duration:
        return None
    return [each / header.duration for each in own]


def length_unknown(path: Path) -> bool:
    """Whether the header has −1 as its number of records: the file was not closed, but is complete."""
    return _is_edf(path) and _read_header(path).num_records == -1


@dataclass(frozen=True, kw_only=True)
class Stretches:
    """Records of an EDF+D or BDF+D with gaps between them; MNE joins the records, but leaves the times of events."""

    onsets: np.ndarray
    """Start of each record by the file's clock, s: (records,)."""
    duration: float
    """Of a record, s."""
    tolerance: float
    """Onsets may be rounded to milliseconds, s."""

    @property
    def gaps(self) -> np.ndarray:
        """Records that follow a gap."""
        return np.flatnonzero(np.diff(self.onsets) - self.duration > self.tolerance) + 1

    def joined(
        self, times: np.ndarray, durations: np.ndarray | float = 0.0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Move events by the file's clock to the samples that were recorded then.

        Returns start and end in the joined recording, s, and whether there is such a sample: not within a gap.
        """
        first, last = self._record_at(times), self._record_at(times + durations)
        in_gap = times > self.onsets[first] + self.duration + self.tolerance
        return self._moved(times, first), self._moved(times + durations, last), ~in_gap | (last > first)

    def _record_at(self, times: np.ndarray) -> np.ndarray:
        return np.clip(np.searchsorted(self.onsets, times + self.tolerance, side="right") - 1, 0, None)

    def _moved(self, times: np.ndarray, record: np.ndarray) -> np.ndarray:
        return record * self.duration + np.clip(times - self.onsets[record], 0, self.duration)


def stretches_of(path: Path) -> Stretches | None:
    """Stretches of an EDF+D or BDF+D with gaps; None for other files, and if its records follow each other.

    Raises `UserError` if records overlap or have no time.
    """
    header = _read_header(path) if _is_edf(path) else None
    if header is None or header.kind not in (b"EDF+D", b"BDF+D"):
        return None
    found = Stretches(
        onsets=_record_onsets(path, header),
        duration=header.duration,
        tolerance=max(0.002, header.duration / max(header.samples)),
    )
    early = np.flatnonzero(np.diff(found.onsets) - found.duration < -found.tolerance)
    if len(early):
        number = int(early[0]) + 1
        raise UserError(f"record {number + 1} of an EDF+D starts before record {number} ends; sort or repair the file")
    return found if len(found.gaps) else None


def mark_gaps(raw: mne.io.BaseRaw, stretches: Stretches, marks: mne.Annotations) -> None:
    """Mark each gap as an `EDGE boundary`, and set the annotations `marks`, which are by the file's clock.

    An annotation is moved to the samples that were recorded at its time; one within a gap has none, and is left out.
    """
    import mne

    begin, end, recorded = stretches.joined(marks.onset, marks.duration)
    gaps = stretches.gaps * stretches.duration
    raw.set_annotations(
        mne.Annotations(
            [*begin[recorded], *gaps],
            [*(end - begin)[recorded], *np.zeros(len(gaps))],
            [*marks.description[recorded], *["EDGE boundary"] * len(gaps)],
            ch_names=[*marks.ch_names[recorded], *[()] * len(gaps)],
        ),
        emit_warning=False,
    )


def _record_onsets(path: Path, header: _Header) -> np.ndarray:
    """Start of each record, s: (records,)."""
    width = 3 if header.kind == b"BDF+D" else 2
    sizes = [width * each for each in header.samples]
    signal = next((index for index, label in enumerate(header.labels) if b"Annotations" in label), None)
    onsets: list[float] = []
    with path.open("rb") as file:
        count = (path.stat().st_size - header.num_bytes) // sum(sizes)
        for record in range(count if signal is not None else 0):
            file.seek(header.num_bytes + record * sum(sizes) + sum(sizes[:signal]))
            found = _ONSET.match(file.read(32))
            if found is None:
                break
            onsets.append(float(found[0]))
    if len(onsets) < max(count, 1):
        raise UserError(
            f"an EDF+D whose record {len(onsets) + 1} has no time, so that gaps cannot be found; convert it to EDF+C"
        )
    return np.array(onsets)


def _is_edf(path: Path) -> bool:
    return path.suffix.lower() in (".edf", ".bdf")


def _read_header(path: Path) -> _Header:
    with path.open("rb") as file:
        fixed = file.read(256)
        count = int(fixed[252:256])
        signals = file.read(256 * count)
    return _Header(
        kind=fixed[192:197],
        num_bytes=int(fixed[184:192]),
        num_records=int(fixed[236:244]),
        duration=float(fixed[244:252]),
        labels=[signals[16 * index : 16 * (index + 1)] for index in range(count)],
        samples=[int(signals[216 * count + 8 * index :][:8]) for index in range(count)],
    )
