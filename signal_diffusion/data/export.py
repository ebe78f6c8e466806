"""Export signals: to MNE's objects, and to files that other programs read.

Signals are float32 µV, (N, electrodes, samples) for whole windows or (N, samples) for single electrodes, with one row
of `metadata` each (a data frame, or name → N values). The output is deterministic, except for the identifier that MNE
writes to each FIF file.
"""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import nested
from signal_diffusion.data.foreign.image_folder import write_images
from signal_diffusion.data.format_limits import EDF_LARGEST_MICROVOLTS, check_limits
from signal_diffusion.data.recordings.positions import head_positions
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = [
    "FORMATS",
    "Metadata",
    "assemble_windows",
    "channel_names",
    "check_edf",
    "check_edf_values",
    "check_formats",
    "edf_step",
    "event_within",
    "parse_formats",
    "save_edf",
    "to_mne",
    "to_raw",
    "with_names",
    "write",
]

Signals = np.ndarray | Tensor
Metadata = pd.DataFrame | Mapping[str, Any] | None

_VOLTS = 1e-6  # per µV
_ROWS_PER_GROUP = 256
_EDF_LARGEST = 32767  # the smallest value is its negative, so that 0 µV is stored as 0


def to_mne(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> mne.EpochsArray:
    """Convert signals to `mne.EpochsArray`: volts, names, positions of the 10-20 system, one epoch per window.

    A single electrode is named by `metadata["electrode"]` if that is the same in all rows, else "EEG". In windows
    around events, time 0 is the event (the card's `tmin` is the time of the first sample); in others, the first sample.
    Events are named by `metadata["label"]`, with the codes 1, 2, … in the order of the card's labels ("unlabelled" is
    last), or "sample" without labels. Raises `UserError` if examples of this card are not signals, or do not match the
    samples.
    """
    import mne

    signals, frame = _checked(samples, card, metadata)
    events = np.zeros((len(signals), 3), dtype=int)
    events[:, 0] = np.arange(len(signals)) * signals.shape[-1] + _event_sample(card)
    event_id = {"sample": 1}
    if "label" in frame:
        labels = ["unlabelled" if label is None else label for label in frame["label"]]
        known = card.columns.get("label", {}).get("names") or sorted({*labels} - {"unlabelled"})
        codes = {label: code for code, label in enumerate([*known, "unlabelled"], start=1)}
        if unknown := [label for label in labels if label not in codes]:
            raise UserError(f"metadata: label {unknown[0]!r} is not one of the card's: {', '.join(known)}")
        event_id = {label: codes[label] for label in codes if label in labels}
    events[:, 2] = [codes[label] for label in labels] if "label" in frame else 1
    return mne.EpochsArray(
        signals.astype(np.float64) * _VOLTS,
        _info(signals, card, frame),
        events=events,
        event_id=event_id,
        tmin=card.tmin or 0.0,
        metadata=frame if len(frame.columns) else None,
        baseline=None,
        verbose="error",
    )


def to_raw(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> mne.io.RawArray:
    """Convert signals to `mne.io.RawArray`: the windows of `to_mne`, concatenated.

    An annotation "label/NAME" spans each window with a known label (with the prefix, since MNE drops data annotated
    with a word that begins with "bad"). In windows around events it is at the time of the event, with a duration of 0,
    if that is inside the window. "BAD boundary" and "EDGE boundary" mark where a window does not continue the
    previous one; generated windows never do.
    """
    import mne

    signals, frame = _checked(samples, card, metadata)
    info = _info(signals, card, frame)
    joined = signals.transpose(1, 0, 2).reshape(signals.shape[1], -1)  # (electrodes, N · samples)
    raw = mne.io.RawArray(joined.astype(np.float64) * _VOLTS, info, verbose="error")
    seconds = signals.shape[-1] / info["sfreq"]
    onsets = np.arange(len(signals)) * seconds
    breaks = onsets[~_continues(frame, card)]
    event, duration = event_within(card, signals.shape[-1]), seconds
    if event is not None:
        onsets, duration = onsets + event / info["sfreq"], 0.0
    labelled = [
        (onset, f"label/{label}") for onset, label in zip(onsets, frame.get("label", ()), strict=False) if label
    ]
    raw.set_annotations(
        mne.Annotations([onset for onset, _ in labelled], duration, [text for _, text in labelled])
        + mne.Annotations(breaks, 0.0, "BAD boundary")
        + mne.Annotations(breaks, 0.0, "EDGE boundary"),
        verbose="error",
    )
    return raw


def channel_names(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> list[str]:
    """Names of the electrodes of signals, in order, as in `to_mne`."""
    signals, frame = _checked(samples, card, metadata)
    return _channel_names(signals, card, frame)


def assemble_windows(examples: Signals, card: DatasetCard, metadata: Metadata) -> tuple[np.ndarray, pd.DataFrame]:
    """Assemble examples of single electrodes, signals or tensors (N · E, *), into whole windows (N, E, *).

    `metadata` has the columns `recording`, `window` and `electrode` (and `dataset` for merged datasets). Windows are
    in the order of their first examples, electrodes in the card's order; a window takes the other columns from its
    first example. Raises a `UserError` that names the first window with a missing, unknown or repeated electrode.
    """
    values = _array(examples)
    frame = _frame(metadata, card, len(values))
    if missing := [name for name in ("recording", "window", "electrode") if name not in frame]:
        raise UserError(f"metadata: no column {', '.join(missing)}; expected recording, window and electrode")
    position = {name: index for index, name in enumerate(card.channels)}
    if unknown := set(frame["electrode"]) - position.keys():
        raise UserError(f"metadata: electrode {min(map(str, unknown))} is not in the card")
    keys = [name for name in ("dataset", "recording", "window") if name in frame]
    window = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    electrode = frame["electrode"].map(position).to_numpy()
    found = np.zeros((window.max(initial=-1) + 1, len(position)), dtype=int)
    np.add.at(found, (window, electrode), 1)
    for number in np.flatnonzero((found != 1).any(axis=1))[:1]:
        wrong = int(np.flatnonzero(found[number] != 1)[0])
        where = ", ".join(f"{name} {frame[name][window == number].iloc[0]}" for name in keys)
        raise UserError(f"{where}: electrode {card.channels[wrong]} occurs {found[number][wrong]} times; expected once")
    whole = np.empty((*found.shape, *values.shape[1:]), values.dtype)
    whole[window, electrode] = values
    return whole, frame.drop_duplicates(keys).drop(columns="electrode").reset_index(drop=True)


def parse_formats(text: str) -> tuple[str, ...]:
    """Parse a list of formats such as "npz,fif"; raises `UserError` for an unknown one."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--format: unknown format {name!r}; use one of: {', '.join(FORMATS)}")
    return names


def check_formats(formats: Sequence[str], card: DatasetCard, *, labels: Iterable[str] = (), num: int = 0) -> None:
    """Raise a `UserError` if samples with this card cannot be written in one of the formats.

    `labels` are those of the samples, and `num` is the number of windows, if they are known.
    """
    for name in formats:
        if name not in TENSOR_FORMATS:
            _check_signals(card, f"--format {name}", "use npz or png, which store the tensors")
            check_limits(name, card.channels, card.sampling_rate or 0, labels, num * (card.window or 0))


def check_edf(card: DatasetCard, *, where: str, advice: str) -> None:
    """Raise a `UserError` if signals with this card and its labels do not fit EDF.

    The message begins with `where` and ends with `advice`.
    """
    _check_signals(card, where, advice)
    labels = card.columns.get("label", {}).get("names", ())
    check_limits("edf", card.channels, card.sampling_rate or 0, labels, where=where, advice=advice)


def check_edf_values(samples: Signals, where: str, *, advice: str = "use npz or parquet") -> None:
    """Raise a `UserError` if EDF cannot store the values of the signals; it begins with `where`, ends with `advice`."""
    if not np.isfinite(_array(samples)).all():
        raise UserError(f"{where}: the samples have values that are not finite, which EDF cannot store; {advice}")
    if (limit := _edf_range(_array(samples))) > EDF_LARGEST_MICROVOLTS:
        raise UserError(f"{where}: the samples reach {limit:,} µV, more than EDF can store; {advice}")


def write(
    stem: Path,
    samples: Signals | None,
    card: DatasetCard,
    metadata: Metadata = None,
    format: str = "npz",
    *,
    tensors: Signals | None = None,
) -> Path:
    """Write samples to one file or folder, `stem` with the format's ending, overwriting it; returns its path.

    npz
        `tensors` (N, C, H, W) if given, `signals` in µV, `sampling_rate` in Hz, `ch_names`, and one array per metadata
        column, with "" or NaN for unknown values. Without signals: only tensors and metadata.
    parquet
        A column `signal` of nested lists (electrodes, samples), float32 µV, and one column per metadata column; the
        file's key-value metadata has `sampling_rate`, `ch_names` and `unit`, each as JSON.
    fif
        The epochs of `to_mne`, float32, as STEM-epo.fif.
    edf
        The recording of `to_raw`, with labels as EDF+ annotations; 16 bits over the range of the signals, so the error
        is at most half an `edf_step`. Up to a second of edge values pads the last record, marked "BAD_ACQ_SKIP".
    png
        A folder with one image per sample, 8 bits for values from -1 to 1, and `metadata.csv`: file_name and the
        metadata columns, empty for unknown values. Tensors of one channel become grey images, as shown by
        `Representation.picture`; three channels become red, green and blue. `datasets` reads the folder as an
        "imagefolder", and so does an experiment (`docs/pictures.md`).

    Raises `UserError` if a format needs signals and there are none, or cannot store these values.
    """
    [name] = parse_formats(format)
    check_formats([name], card)
    if samples is None:
        if name not in TENSOR_FORMATS or tensors is None:
            raise UserError(f"--format {name}: there are no signals to write; use npz or png")
        out = _Samples(card=card, signals=None, tensors=_array(tensors), frame=_frame(metadata, card, len(tensors)))
    else:
        _, frame = _checked(samples, card, metadata)
        labels = [label for label in frame.get("label", pd.Series()).unique() if label is not None]
        check_formats([name], card, labels=labels, num=len(frame))
        given = None if tensors is None else _array(tensors)
        out = _Samples(card=card, signals=_array(samples).astype(np.float32, copy=False), tensors=given, frame=frame)
    path = stem.with_name(stem.name + FORMATS[name].ending)
    FORMATS[name].write(path, out)
    return path


def save_edf(path: Path, raw: mne.io.BaseRaw, samples: Signals) -> None:
    """Write the recording that `to_raw` made from samples as EDF; see `write`."""
    from mne.export import export_raw

    limit = _edf_range(_array(samples))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*requires equal-length data blocks.*")  # documented in `write`
        export_raw(path, raw, fmt="edf", physical_range=(-limit, limit), overwrite=True, verbose="error")


def edf_step(samples: Signals) -> float:
    """Resolution of an EDF file of these signals: µV between neighbouring values.

    The range is ± the largest magnitude, rounded up to whole µV (1 µV for silence), the same for all channels.
    """
    return _edf_range(_array(samples)) / _EDF_LARGEST


def event_within(card: DatasetCard, samples: int) -> int | None:
    """Sample of the event in windows of so many; None if they are not around events, or their event is outside."""
    event = _event_sample(card)
    return event if card.tmin is not None and 0 <= event < samples else None


def _event_sample(card: DatasetCard) -> int:
    """Sample of the event relative to the first one of a window; 0 for windows that are not around events."""
    return round(-(card.tmin or 0.0) * (card.sampling_rate or 0.0))


def with_names(values: pd.Series, names: Sequence[str] | None) -> pd.Series:
    """Convert a column to names or numbers: codes become their `names`, unknown values ("", NaN, -1) None."""
    if names is not None and pd.api.types.is_numeric_dtype(
        values
    ):  # pandas turns integers with missing values into floats
        if (values >= len(names)).any():
            raise UserError(f"{values.name}: found code {values.max():g}, but the card has only {len(names)} names")
        return pd.Series([names[int(code)] if code >= 0 else None for code in values], dtype=object)
    if pd.api.types.is_numeric_dtype(values):
        return values
    return pd.Series([None if pd.isna(value) or value == "" else value for value in values], dtype=object)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """Input of a writer."""

    card: DatasetCard
    signals: np.ndarray | None
    """µV, (N, electrodes, samples) or (N, samples)."""
    tensors: np.ndarray | None
    frame: pd.DataFrame

    @property
    def windows(self) -> np.ndarray:
        """µV (N, electrodes, samples), one for a single electrode."""
        assert self.signals is not None
        return self.signals if self.signals.ndim == 3 else self.signals[:, None]


@dataclass(frozen=True, kw_only=True)
class _Format:
    ending: str
    write: Callable[[Path, _Samples], None]


def _write_npz(path: Path, out: _Samples) -> None:
    arrays: dict[str, np.ndarray] = {} if out.tensors is None else {"tensors": out.tensors}
    if out.signals is not None:
        arrays["signals"] = out.signals
        arrays["sampling_rate"] = np.array(out.card.sampling_rate)
        arrays["ch_names"] = np.array(_channel_names(out.windows, out.card, out.frame))
    _refuse_reserved(out.frame, {*arrays, "tensors", "signals"}, path)
    for name, values in out.frame.items():
        text = values.dtype == object
        arrays[str(name)] = np.array(["" if v is None else str(v) for v in values]) if text else values.to_numpy()
    # Like `np.savez`, which cannot be used: a column named "file" would collide with its argument.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_parquet(path: Path, out: _Samples) -> None:
    _refuse_reserved(out.frame, {"signal"}, path)
    columns = {str(name): pa.array(values.tolist(), from_pandas=True) for name, values in out.frame.items()}
    columns = {name: each.cast(pa.string()) if pa.types.is_null(each.type) else each for name, each in columns.items()}
    about = {
        "sampling_rate": out.card.sampling_rate,
        "ch_names": _channel_names(out.windows, out.card, out.frame),
        "unit": "µV",
    }
    signal = pa.field("signal", pa.list_(pa.list_(pa.float32())))
    schema = pa.schema(
        [signal, *(pa.field(name, each.type) for name, each in columns.items())],
        metadata={key: json.dumps(value, ensure_ascii=False) for key, value in about.items()},
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, len(out.windows), _ROWS_PER_GROUP):
            some = slice(start, start + _ROWS_PER_GROUP)
            arrays = [nested(out.windows[some]), *(each[some] for each in columns.values())]
            writer.write_table(pa.table(arrays, schema=schema))


def _write_fif(path: Path, out: _Samples) -> None:
    to_mne(out.windows, out.card, out.frame).save(path, fmt="single", overwrite=True, verbose="error")


def _write_edf(path: Path, out: _Samples) -> None:
    check_edf_values(out.windows, str(path))
    save_edf(path, to_raw(out.windows, out.card, out.frame), out.windows)


def _write_png(path: Path, out: _Samples) -> None:
    if out.tensors is None:
        raise UserError(f"{path}: there are no tensors to write as images; use another format")
    _refuse_reserved(out.frame, {"file_name"}, path)
    write_images(path, torch.from_numpy(out.tensors), out.frame, representation_of(out.card))


def _edf_range(signals: np.ndarray) -> int:
    return max(1, math.ceil(np.abs(signals).max(initial=0)))


FORMATS: dict[str, _Format] = {
    "npz": _Format(ending=".npz", write=_write_npz),
    "parquet": _Format(ending=".parquet", write=_write_parquet),
    "fif": _Format(ending="-epo.fif", write=_write_fif),
    "edf": _Format(ending=".edf", write=_write_edf),
    "png": _Format(ending="", write=_write_png),
}
TENSOR_FORMATS = ("npz", "png")
"""Formats that do not need signals."""


def _refuse_reserved(frame: pd.DataFrame, reserved: set[str], path: Path) -> None:
    if both := sorted(reserved & {str(name) for name in frame}):
        raise UserError(
            f"{path}: the metadata has a column {both[0]}, a name that the file itself uses; rename the column"
        )


def _array(values: Signals) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check_signals(card: DatasetCard, where: str, advice: str) -> None:
    if card.representation["inverse"] == "none" or card.sampling_rate is None:
        raise UserError(
            f"{where}: {card.representation['name']} examples of this dataset cannot be turned into signals; {advice}"
        )


def _checked(samples: Signals, card: DatasetCard, metadata: Metadata) -> tuple[np.ndarray, pd.DataFrame]:
    """Validate signals and metadata against the card; returns the signals as (N, electrodes, samples)."""
    _check_signals(card, "export", "only tensors can be exported")
    signals = _array(samples)
    if signals.ndim not in (2, 3):
        raise UserError(f"signals have shape {signals.shape}; expected (N, electrodes, samples) or (N, samples)")
    if signals.ndim == 3 and signals.shape[1] not in (1, len(card.channels)):
        raise UserError(f"signals have {signals.shape[1]} electrodes; the card has {len(card.channels)}")
    return signals if signals.ndim == 3 else signals[:, None], _frame(metadata, card, len(signals))


def _frame(metadata: Metadata, card: DatasetCard, count: int) -> pd.DataFrame:
    """Convert metadata to a frame with one row per sample, names instead of codes, and None for unknown."""
    columns = {} if metadata is None else {str(name): values for name, values in metadata.items()}
    for name, values in columns.items():
        if len(values) != count:
            raise UserError(f"metadata: {name} has {len(values)} values for {count} samples")
    named = {
        name: with_names(
            pd.Series(_array(values) if isinstance(values, Tensor) else list(values)),
            card.columns.get(name, {}).get("names"),
        )
        for name, values in columns.items()
    }
    return pd.DataFrame(named, index=range(count))


def _channel_names(signals: np.ndarray, card: DatasetCard, frame: pd.DataFrame) -> list[str]:
    if signals.shape[1] == len(card.channels):
        return list(card.channels)
    names = set(frame["electrode"]) if "electrode" in frame else set()
    return [names.pop() or "EEG"] if len(names) == 1 else ["EEG"]


def _info(signals: np.ndarray, card: DatasetCard, frame: pd.DataFrame) -> mne.Info:
    import mne

    info = mne.create_info(_channel_names(signals, card, frame), card.sampling_rate, "eeg", verbose="error")
    _place_electrodes(info, card)
    with info._unlock():  # MNE has no other way to record filters that it did not apply itself
        if "band" in card.preprocessing:
            info["highpass"], info["lowpass"] = map(float, card.preprocessing["band"])
        if card.preprocessing.get("reference", "none") != "none":  # also for an average, like `set_eeg_reference`
            info["custom_ref_applied"] = mne.io.constants.FIFF.FIFFV_MNE_CUSTOM_REF_ON
    return info


def _place_electrodes(info: mne.Info, card: DatasetCard) -> None:
    """Positions of the 10-20 system; those of the card if they are from the recordings, or for other electrodes."""
    import mne

    info.set_montage("standard_1020", match_case=False, on_missing="ignore", verbose="error")
    replaced = card.preprocessing.get("positions") == "recordings"
    unplaced = {each["ch_name"] for each in info["chs"] if not np.isfinite(each["loc"][:3]).all()}
    chosen = {name: xyz for name, xyz in card.positions.items() if name in (info.ch_names if replaced else unplaced)}
    if not chosen:
        return
    montage = info.get_montage()
    known: dict[str, Any] = montage.get_positions() if montage else {"ch_pos": {}, "coord_frame": "head"}
    known["ch_pos"] = known["ch_pos"] | head_positions(chosen)
    info.set_montage(mne.channels.make_dig_montage(**known), on_missing="ignore", verbose="error")


def _continues(frame: pd.DataFrame, card: DatasetCard) -> np.ndarray:
    """Whether each window (N,) continues the previous one of its recording; True for the first window."""
    follows = np.zeros(len(frame), dtype=bool)
    follows[:1] = True
    if card.preprocessing.get("overlap") == 0 and {"recording", "window"} <= set(frame):
        same = [name for name in ("dataset", "recording", "electrode") if name in frame]
        before = frame.shift()
        follows |= (frame[same] == before[same]).all(axis=1) & (frame["window"] == before["window"] + 1)
    return follows
