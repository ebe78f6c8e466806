"""Recordings of EEG found in folders, and read as microvolts at one rate, with one set of electrodes.

MNE-Python does the reading: EDF, BDF, FIF, EEGLAB (.set) and BrainVision (.vhdr), and BIDS folders through
MNE-BIDS. Whatever cannot be used is a `UserError` of one line that names the file.
"""

from __future__ import annotations

import csv
import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.signal

from signal_diffusion.data.windows import flat_seconds
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = ["TEN_TWENTY", "Recording", "channel_names", "find_recordings", "read_recording", "source_of"]

logger = logging.getLogger(__name__)

TEN_TWENTY = (
    "Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz", "C4", "T8",
    "P7", "P3", "Pz", "P4", "P8", "O1", "O2",
)  # fmt: skip

FORMATS = (".edf", ".bdf", ".fif", ".fif.gz", ".set", ".vhdr")

_OLD_NAMES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
_MASTOIDS = ("A1", "A2", "M1", "M2")
_PLAUSIBLE = (0.1, 500.0)  # µV, median of the absolute value


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One file of EEG, what is known about it before it is read."""

    path: Path
    recording: str
    """The file's path within its input: unique in a dataset."""
    subject: str
    dataset: str
    task: str | None = None
    gender: str | None = None
    """`female` or `male` where the source says so in any usual way, else as it stands there."""
    health: str | None = None
    age: float | None = None
    """Years."""
    caption: str | None = None
    participant: dict[str, str] = field(default_factory=dict)
    """The person's row of participants.tsv, missing values left out."""
    bids: Any = None
    """The file's `mne_bids.BIDSPath`, where it lies in a BIDS folder."""


def find_recordings(root: Path) -> list[Recording]:
    """List the recordings of a BIDS folder, a plain folder (searched in depth) or one file; reads none.

    In a plain folder the subject is the folder directly under `root`, or the file's own name where there is
    none: the files of one person belong in one folder.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; give a recording, a folder of recordings or a BIDS folder")
    if root.is_dir() and ((root / "participants.tsv").exists() or (root / "dataset_description.json").exists()):
        found = _find_bids(root)
    else:
        found = _find_plain(root)
    if not found:
        raise UserError(f"{root}: no recordings here; known formats are {', '.join(FORMATS)}")
    return found


def source_of(root: Path) -> dict[str, Any]:
    """Give `name`, `license` and `description` of an input, null where it does not say."""
    path = root / "dataset_description.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); put it right or remove it") from error
    if not isinstance(description, dict) or not isinstance(description.get("License"), str | None):
        raise UserError(f"{path}: expected an object whose License is text; put it right or remove it")
    return {
        "name": _dataset_name(root),
        "license": description.get("License"),
        "description": description.get("Name"),
    }


def channel_names(channels: str) -> tuple[str, ...]:
    """Turn `10-20` (its 19 scalp electrodes) or `A,B,C` into names."""
    if channels == "10-20":
        return TEN_TWENTY
    names = tuple(name.strip() for name in channels.split(",") if name.strip())
    if not names or len(set(map(_canonical, names))) < len(names):
        raise UserError(f"channels: {channels!r} names none or one twice; use 10-20 or a list such as Fz,Cz,Pz")
    return names


def read_recording(
    recording: Recording,
    *,
    channels: Sequence[str],
    reference: str,
    band: tuple[float, float],
    notch: Sequence[float],
    sampling_rate: float,
    min_samples: int,
    flat_below: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Read one recording: µV (channels, samples) float32, and which seconds are flat (seconds,) bool.

    In this order: pick, find flat seconds (`windows.flat_seconds`), resample with an anti-aliasing filter,
    band-pass and notch (zero-phase, MNE's FIR design), reference. `reference` is `average` (of `channels`),
    `none`, or names of channels whose mean is subtracted. Raises `UserError` for whatever cannot be used, and
    logs implausible amplitudes.
    """
    import mne

    references = () if reference in ("average", "none") else channel_names(reference)
    with _errors_named(recording.path):
        raw = _open(recording)
        sfreq = float(raw.info["sfreq"])
        picks = _find_channels((*channels, *references), raw)
        _check_extent(raw, sampling_rate, min_samples)
        data = raw.get_data(picks=sorted(set(picks)), verbose="ERROR") * 1e6
        data = data[np.searchsorted(sorted(set(picks)), picks)]
        if not np.isfinite(data).all():
            raise UserError(f"{np.sum(~np.isfinite(data))} samples are not finite; repair or leave out the file")

        flat = flat_seconds(data[: len(channels)], sfreq, flat_below)
        ratio = Fraction(sampling_rate / sfreq).limit_denominator(10_000)
        if ratio != 1:
            data = scipy.signal.resample_poly(data, ratio.numerator, ratio.denominator, axis=-1, padtype="line")
        data = mne.filter.filter_data(data, sampling_rate, *band, copy=False, verbose="ERROR")
        if len(notch):
            data = mne.filter.notch_filter(data, sampling_rate, np.asarray(notch), verbose="ERROR")

    signal = data[: len(channels)]
    if references:
        signal = signal - data[len(channels) :].mean(axis=0)
    elif reference == "average":
        signal = signal - signal.mean(axis=0)
    _warn_if_implausible(recording, signal)
    return signal.astype(np.float32), flat


def _find_bids(root: Path) -> list[Recording]:
    import mne_bids

    people = _participants(root / "participants.tsv")
    paths = mne_bids.find_matching_paths(root, datatypes="eeg", suffixes="eeg", extensions=list(FORMATS))
    recordings = []
    for path in sorted(paths, key=lambda path: path.fpath):
        person = people.get(f"sub-{path.subject}", {})
        recordings.append(
            Recording(
                path=path.fpath,
                recording=path.fpath.relative_to(root).as_posix(),
                subject=f"sub-{path.subject}",
                dataset=_dataset_name(root),
                task=path.task,
                gender=_gender(person.get("sex", person.get("gender"))),
                health=person.get("health", person.get("group")),
                age=_number(person.get("age")),
                participant=person,
                bids=path,
            )
        )
    return recordings


def _find_plain(root: Path) -> list[Recording]:
    base = root if root.is_dir() else root.parent
    files = sorted(root.rglob("*")) if root.is_dir() else [root]
    recordings = []
    for path in files:
        if not path.name.lower().endswith(FORMATS) or not path.is_file():
            continue
        inside = path.relative_to(base)
        recordings.append(
            Recording(
                path=path,
                recording=inside.as_posix(),
                subject=inside.parts[0] if len(inside.parts) > 1 else inside.stem,
                dataset=_dataset_name(root),
            )
        )
    return recordings


def _dataset_name(root: Path) -> str:
    return root.resolve().name if root.is_dir() else root.resolve().parent.name


def _participants(path: Path) -> dict[str, dict[str, str]]:
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8, as BIDS asks for ({error}); convert it") from error
    if rows and "participant_id" not in rows[0]:
        raise UserError(f"{path}: has no column participant_id, only {', '.join(rows[0])}; see the BIDS specification")
    known = [{key: value for key, value in row.items() if value not in (None, "", "n/a")} for row in rows]
    return {row["participant_id"]: row for row in known if "participant_id" in row}


def _gender(text: str | None) -> str | None:
    usual = {"f": "female", "female": "female", "m": "male", "male": "male"}
    return text if text is None else usual.get(text.lower(), text)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _open(recording: Recording) -> mne.io.BaseRaw:
    import mne
    import mne_bids

    if recording.path.stat().st_size == 0:
        raise UserError("the file is empty; fetch it again")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if recording.bids is not None:
            raw = mne_bids.read_raw_bids(recording.bids, verbose="WARNING")
        else:
            raw = mne.io.read_raw(recording.path, preload=False, verbose="WARNING")
    # MNE reads what there is of a truncated EDF and only warns.
    short = any("does not match the file size" in str(warning.message) for warning in caught)
    if short and not _length_left_open(recording.path):
        raise UserError("the file is shorter or longer than its header says; fetch it again")
    return raw


def _length_left_open(path: Path) -> bool:
    """Tell whether an EDF or BDF header has −1 for its number of records: never closed, but whole."""
    with path.open("rb") as file:
        file.seek(236)
        return file.read(8).strip() == b"-1"


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Put the file's name before every error, MNE's own included, and make it one line."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # MNE's readers raise whatever they trip over
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: cannot be read as {path.suffix} ({reason}); fetch it again or convert it") from error


def _check_extent(raw: mne.io.BaseRaw, sampling_rate: float, min_samples: int) -> None:
    sfreq, seconds = float(raw.info["sfreq"]), raw.n_times / float(raw.info["sfreq"])
    if sfreq < sampling_rate * (1 - 1e-4):
        raise UserError(f"sampled at {sfreq:g} Hz, below the dataset's {sampling_rate:g} Hz; use --rate {sfreq:g}")
    if seconds * sampling_rate < min_samples:
        raise UserError(f"lasts {seconds:.3g} s, less than one window of {min_samples / sampling_rate:.3g} s")


def _find_channels(wanted: Sequence[str], raw: mne.io.BaseRaw) -> list[int]:
    """Find each wanted name: as it stands among all channels, else by electrode among those of type EEG."""
    exact = {name.strip().lower(): index for index, name in reversed(list(enumerate(raw.ch_names)))}
    types = raw.get_channel_types()
    electrodes = {
        _canonical(name): index for index, name in reversed(list(enumerate(raw.ch_names))) if types[index] == "eeg"
    }
    found = {name: exact.get(name.lower(), electrodes.get(_canonical(name))) for name in wanted}
    missing = [name for name, index in found.items() if index is None]
    if missing:
        there = ", ".join(raw.ch_names[:40]) + (", …" if len(raw.ch_names) > 40 else "")
        raise UserError(f"no channel {', '.join(missing)}; it has {there}; name those to use with --channels")
    return [index for name in wanted if (index := found[name]) is not None]


def _canonical(name: str) -> str:
    """Strip what recorders put around an electrode's name: `EEG T3-REF`, `t7`, `T7.` → `T7`."""
    name = re.sub(r"^EEG[ _-]*", "", name.strip(" ."), flags=re.IGNORECASE).upper()
    electrode, _, other = name.rpartition("-")
    # A common reference, not the second half of a bipolar pair such as Fp1-F7, nor one mastoid against the
    # other.
    if other in ("REF", "LE", "AVG", *_MASTOIDS) and electrode and electrode not in _MASTOIDS:
        name = electrode
    return _OLD_NAMES.get(name, name)


def _warn_if_implausible(recording: Recording, signal: np.ndarray) -> None:
    median = float(np.median(np.abs(signal)))
    if not _PLAUSIBLE[0] <= median <= _PLAUSIBLE[1]:
        logger.warning(
            "%s: the median amplitude is %.3g µV, and EEG has some 1 to 100; check the unit in the file",
            recording.path,
            median,
        )
