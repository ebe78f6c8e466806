"""Recordings as plain arrays: .npy, .npz, .mat, and tables (.csv, .tsv) with a column per electrode.

They do not say their unit, and most not their rate: `--units`, `--sfreq` and `--ch-names` do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.data.recordings.channels import as_electrodes, channel_names, find_channels
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.signal_tables import TABLES, SignalTable, holds_signals, read_table
from signal_diffusion.data.recordings.table_columns import electrode_columns
from signal_diffusion.errors import UserError, listed
from signal_diffusion.untrusted import check_expansion

if TYPE_CHECKING:
    import mne

__all__ = [
    "UNITS",
    "array_electrodes",
    "has_array_suffix",
    "is_array",
    "open_array",
    "plausible_units",
    "volts_per_unit",
    "with_array_options",
]

UNITS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "nV": 1e-9}

_SUFFIXES = (*TABLES, ".npy", ".npz", ".mat")


def has_array_suffix(path: Path) -> bool:
    """Whether a file can be read by `open_array`, if it is given by name."""
    return path.suffix.lower() in _SUFFIXES


def is_array(path: Path) -> bool:
    """Whether a file in a folder seems to be a recording: an array, or a table of at least 100 rows of numbers."""
    return has_array_suffix(path) and (path.suffix.lower() not in TABLES or holds_signals(path))


def volts_per_unit(units: str | None) -> float | None:
    """Factor to V from `--units`, a unit or this factor itself; None if it was not given."""
    if units is None:
        return None
    plain = units.replace("µ", "u").replace("μ", "u")  # micro sign, and Greek mu
    try:
        factor = UNITS[plain] if plain in UNITS else float(plain)
    except ValueError:
        factor = float("nan")
    if not 0 < factor < float("inf"):
        raise UserError(f"units: {units!r}; use one of {', '.join(UNITS)}, or the size of the unit in V, such as 1e-6")
    return factor


def plausible_units(microvolts: float) -> str | None:
    """`--units` with which an amplitude, read as if the numbers were V, is one of EEG (1 to 500 µV)."""
    tried = {**UNITS, "1e3": 1e3, "1e6": 1e6}
    return next((name for name, factor in tried.items() if 1 <= microvolts * factor <= 500), None)


def with_array_options(
    recordings: Sequence[Recording], *, sfreq: float | None, units: str | None, ch_names: str | None
) -> list[Recording]:
    """Add rate and channels to the recordings that are arrays.

    Raises `UserError` if there are arrays but no `units`, other recordings that `units` would scale too, or options but
    no arrays.
    """
    arrays = [each for each in recordings if has_array_suffix(each.path)]
    if arrays and units is None:
        rate = "" if sfreq or arrays[0].path.suffix.lower() in TABLES else "--sfreq 256 "
        raise UserError(f"{arrays[0].path}: an array does not say its unit; add {rate}--units uV (or mV, V, nV)")
    if arrays and len(arrays) < len(recordings):
        raise UserError(
            f"--units would apply to {len(arrays)} arrays and {len(recordings) - len(arrays)} other recordings alike; "
            "prepare them separately"
        )
    if not arrays and (sfreq is not None or ch_names is not None):
        raise UserError("--sfreq and --ch-names are for arrays (.csv, .tsv, .npy, .npz, .mat), and there are none")
    names = channel_names(ch_names, "ch-names") if ch_names is not None else ()
    return [replace(each, sfreq=sfreq, ch_names=names) for each in arrays] or list(recordings)


def open_array(path: Path, sfreq: float | None, ch_names: Sequence[str], rows: int | None = None) -> mne.io.RawArray:
    """Load an array; its numbers are unchanged, so they are volts only if those in the file are.

    Columns of text in a table become annotations: one over each run of equal cells, or an event if that is one cell.

    `sfreq` is the rate, Hz; None = that of the time column of a table. `ch_names` are the electrodes in order; () = the
    names of a table's columns. Of a table, only the first `rows` are read, if given. Raises `UserError` if rate, names
    or which axis is time remain unknown.
    """
    return _as_raw(_signals(path, sfreq, ch_names, rows))


def array_electrodes(recording: Recording) -> tuple[tuple[str, ...], list[str]]:
    """Electrodes of an array, as `--channels file` means them, and the columns that are none."""
    signals = _signals(recording.path, recording.sfreq, recording.ch_names)
    raw = _as_raw(signals)
    chosen = electrode_columns(raw, by_name_only=bool(recording.ch_names))
    names = as_electrodes(chosen, raw)
    found = find_channels(names, raw)
    unused = () if recording.ch_names else signals.unused
    return names, [*(name for index, name in enumerate(raw.ch_names) if index not in found), *unused]


def _signals(path: Path, sfreq: float | None, ch_names: Sequence[str], rows: int | None = None) -> SignalTable:
    if path.suffix.lower() in TABLES:
        return read_table(path, ch_names, sfreq, rows)
    return SignalTable(ch_names=tuple(ch_names), data=_oriented(_load(path), ch_names), sfreq=sfreq, marks=[])


def _as_raw(signals: SignalTable) -> mne.io.RawArray:
    import mne

    sfreq, marks = signals.sfreq, signals.marks
    if sfreq is None:
        raise UserError("an array does not say its sampling rate; add --sfreq, such as --sfreq 256")
    raw = mne.io.RawArray(signals.data, mne.create_info(list(signals.ch_names), sfreq, "eeg"), verbose="ERROR")
    return raw.set_annotations(
        mne.Annotations(
            [start / sfreq for start, _, _ in marks],
            [count / sfreq if count > 1 else 0.0 for _, count, _ in marks],
            [text for _, _, text in marks],
        )
    )


def _load(path: Path) -> np.ndarray:
    """Load the only two-dimensional array of numbers in a file."""
    if path.suffix.lower() == ".npy":
        found = {path.name: np.load(path, allow_pickle=False)}
    elif path.suffix.lower() == ".npz":
        check_expansion(path)
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    else:
        import pymatreader

        found = _arrays_in(pymatreader.read_mat(path))
    numbers = {name: each for name, each in found.items() if each.dtype.kind in "iuf" and each.ndim >= 2 and each.size}
    flat = [each for each in numbers.values() if each.ndim == 2]
    trials = any(each.ndim > 2 and each.size >= max(map(np.size, flat), default=0) for each in numbers.values())
    if len(flat) != 1 or trials:  # next to trials, an array of two dimensions has labels
        shapes = [f"{name} {'×'.join(map(str, each.shape))}" for name, each in (numbers or found).items()]
        raise UserError(
            "expected one array of numbers with two dimensions, channels and samples; found "
            f"{listed(shapes) or 'none'}; save one recording as one array"
            + (", or its trials as epochs: mne.EpochsArray(data, info).save('NAME-epo.fif')" if trials else "")
        )
    return flat[0].astype(float)


def _arrays_in(variables: dict[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """Arrays of a MATLAB file, also those in structures."""
    found: dict[str, np.ndarray] = {}
    for name, value in variables.items():
        if isinstance(value, dict):
            found |= _arrays_in(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray) and not name.startswith("__"):
            found[prefix + name] = value
    return found


def _oriented(data: np.ndarray, ch_names: Sequence[str]) -> np.ndarray:
    """Bring an array into the order (channels, samples)."""
    shape = "×".join(map(str, data.shape))
    if not ch_names:
        raise UserError(
            f"an array of {shape} numbers does not name its electrodes; add --ch-names with {min(data.shape)} names, "
            "such as --ch-names Fz,Cz,Pz"
        )
    axes = [axis for axis, size in enumerate(data.shape) if size == len(ch_names)]
    if len(axes) == 2:
        raise UserError(
            f"an array of {shape} numbers: channels and samples cannot be told apart; use a longer recording"
        )
    if not axes:
        raise UserError(
            f"an array of {shape} numbers, but --ch-names has {len(ch_names)} names; name each channel once"
        )
    return data if axes[0] == 0 else data.T
