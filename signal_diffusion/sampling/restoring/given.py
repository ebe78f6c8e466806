"""Read what is given of a recording, as the model's training data were read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.arrays import has_array_suffix, volts_per_unit
from signal_diffusion.data.recordings.channels import channel_names, find_channels, missing_channels
from signal_diffusion.data.recordings.edf import channel_rates
from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.opening import errors_naming, open_recording
from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.data.recordings.reading import Reading, read_recording
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError, listed, print_warning
from signal_diffusion.sampling.restoring.options import RestoreOptions
from signal_diffusion.sampling.restoring.plan import Plan, plan_of

if TYPE_CHECKING:
    import mne

__all__ = ["as_recording", "planned", "read_given"]


@contextmanager
def as_recording(source: mne.io.BaseRaw | str | Path) -> Iterator[Recording]:
    """The recording of a file, or of an MNE object, which is in a temporary file within the context."""
    if isinstance(source, str | Path):
        yield _recording(Path(source).expanduser())
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recording_raw.fif"
        source.save(path, fmt="double", verbose="error")
        yield _recording(path)


def planned(recording: Recording, card: DatasetCard, options: RestoreOptions) -> Plan:
    """What is given of a recording and what is restored, from its header.

    Raises
    ------
    UserError
        If the recording cannot be read as the model's training data were, or by the rules of `plan_of`.
    """
    if not {"band", "reference"} <= card.preprocessing.keys():
        raise UserError(
            "the model's card does not say how its recordings were filtered and referenced, so others cannot be read "
            "the same way; use a model whose dataset `prepare` made from recordings"
        )
    with errors_naming(recording.path):
        raw = open_recording(recording)
        plan = plan_of(raw, card, options)
        _check_rates(recording.path, raw, plan)
        reference = card.preprocessing["reference"]
        if missing := missing_channels(_references(reference), raw):
            raise UserError(
                f"no channel {listed(missing)}, to which the model's data were referenced ({reference}); use a "
                "recording with it"
            )
    return plan


def read_given(
    recording: Recording, plan: Plan, card: DatasetCard, folder: Path, *, units: str | None = None
) -> tuple[np.ndarray, Reading]:
    """What is given, µV (channels, samples with the extension) float32, as a memory map in `folder`; the rest is 0.

    The electrodes that are not given do not take part in the average reference.
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
    reading = read_recording(recording, options, folder / "given.npy")
    if reading.epochs:
        raise UserError(f"{recording.path}: holds epochs; give the continuous recording that they were cut from")
    shape = (len(plan.channels), reading.num_samples + plan.extension)
    signal = np.lib.format.open_memmap(folder / "recording.npy", mode="w+", dtype=np.float32, shape=shape)
    for row, name in zip(np.load(folder / "given.npy", mmap_mode="r"), plan.given, strict=True):
        signal[plan.channels.index(name), : reading.num_samples] = row
    (folder / "given.npy").unlink()
    for line in _doubts(reading):
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


def _references(reference: str) -> tuple[str, ...]:
    return () if reference in ("average", "none") else channel_names(reference)


def _check_rates(path: Path, raw: mne.io.BaseRaw, plan: Plan) -> None:
    """Raise a `UserError` if the rate of an electrode is below the model's, or differs from that of the others."""
    rates = channel_rates(path, raw) or [float(raw.info["sfreq"])] * len(raw.ch_names)
    own = {name: rates[index] for name, index in zip(plan.given, find_channels(plan.given, raw), strict=True)}
    most = max(own.values())
    if most < plan.sfreq * (1 - 1e-4):
        raise UserError(
            f"sampling rate {most:g} Hz is below the model's {plan.sfreq:g} Hz; use a recording with at least that"
        )
    if other := [name for name, rate in own.items() if rate != most]:
        raise UserError(f"{listed(other)}: recorded at other rates than {most:g} Hz; name them with --bad")


def _doubts(reading: Reading) -> list[str]:
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
    return lines
