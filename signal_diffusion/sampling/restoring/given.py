"""Read what is given of a recording, as the model's training data were read."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.arrays import has_array_suffix, volts_per_unit
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.data.recordings.reading import Reading, read_recording
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.spans import Span
from signal_diffusion.errors import UserError, listed, print_warning
from signal_diffusion.sampling.restoring.mapped import mapped
from signal_diffusion.sampling.restoring.plan import Plan

if TYPE_CHECKING:
    import mne

__all__ = ["as_recording", "read_given"]


@contextmanager
def as_recording(source: mne.io.BaseRaw | str | Path) -> Iterator[Recording]:
    """The recording of a file, or of an MNE object, which is in a temporary file within the context."""
    if isinstance(source, str | Path):
        yield _recording(Path(source).expanduser())
        return
    import mne

    if not isinstance(source, mne.io.BaseRaw):
        raise UserError(f"recording: found {type(source).__name__}; expected a path or an mne.io.Raw")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording_raw.fif"
        source.save(path, fmt="double", verbose="error")
        try:
            yield _recording(path)
        except UserError as error:
            raise UserError(*(line.replace(str(path), "recording") for line in error.lines)) from error


def read_given(
    recording: Recording, plan: Plan, card: DatasetCard, folder: Path, *, units: str | None = None, warns: bool = True
) -> tuple[np.ndarray, Reading]:
    """What is given, µV (channels, samples with the extension) float32, as a memory map in `folder`; the rest is 0.

    It is at the rate of the plan. The electrodes that are not given do not take part in the average reference.
    `warns` is whether to print warnings about the recording.
    """
    options = ReadOptions(
        channels=plan.given,
        reference=card.preprocessing["reference"],
        band=tuple(card.preprocessing["band"]),
        notch=tuple(card.preprocessing.get("notch", ())),
        sampling_rate=plan.sfreq,
        min_samples=1,
        flat_below=card.preprocessing.get("reject_flat", 0.1),
        gaps=plan.gaps,
        volts_per_unit=volts_per_unit(units),
    )
    reading = read_recording(recording, options, folder / "given.npy", warns=warns)
    if reading.epochs:
        raise UserError(f"{recording.path}: holds epochs; give the continuous recording that they were cut from")
    shape = (len(plan.channels), reading.num_samples + plan.extension)
    signal = mapped(folder / "recording.npy", shape)
    for row, name in zip(np.lib.format.open_memmap(folder / "given.npy", mode="r"), plan.given, strict=True):
        signal[plan.channels.index(name), : reading.num_samples] = row
    (folder / "given.npy").unlink()
    for line in _doubts(reading, plan) if warns else ():
        print_warning(f"{recording.path}: {line}")
    return signal, reading


def _recording(path: Path) -> Recording:
    if has_array_suffix(path):
        raise UserError(
            f"{path}: an array does not say its unit and rate; convert it to EDF or FIF, or in Python give an "
            "mne.io.RawArray"
        )
    recordings = find(path).recordings
    if len(recordings) > 1:
        raise UserError(f"{path}: holds {len(recordings)} recordings; give one of them")
    return recordings[0]


def _doubts(reading: Reading, plan: Plan) -> list[str]:
    """Lines about what may spoil the result."""
    lines = []
    if reading.mostly_flat:
        flat = listed(reading.mostly_flat)
        lines.append(f"flat in more than half of the recording, but used: {flat}; name them with --bad")
    breaks = [span for span in reading.spans if span.interruption]
    if breaks:
        lines.append(
            f"interrupted {len(breaks)} times, the first at {breaks[0].onset:.6g} s; windows around these times are "
            "restored as if it were not"
        )
    bad = [span for span in reading.spans if span.bad and not span.interruption and not _within_gaps(span, plan)]
    if bad:
        counts = Counter(span.description for span in bad)
        found = listed([f"{name} ({count})" for name, count in counts.items()])
        lines.append(
            f"annotated as bad, but used: {found}, the first at {bad[0].onset:.6g} s; restore a stretch with "
            f"--gap {_seconds(bad)}"
        )
    if lost := [span for span in reading.spans if span.ch_names and not plan.written_of(span.ch_names)]:
        lines.append(
            f"annotations of channels that are left out are not kept: {len(lost)}, the first at {lost[0].onset:.6g} s"
        )
    return lines


def _within_gaps(span: Span, plan: Plan) -> bool:
    return any(start <= span.onset and span.end <= stop for start, stop in plan.gaps)


def _seconds(spans: Sequence[Span]) -> str:
    """Start and stop of the first of these that has a duration, rounded so that they contain it."""
    for span in spans:
        if span.end > span.onset:
            return f"{math.floor(span.onset * 1000) / 1000:.10g} {math.ceil(span.end * 1000) / 1000:.10g}"
    return "START STOP"
