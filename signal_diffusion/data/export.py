"""Signals out again: to MNE's objects, and to files that other programs read.

Signals come as float32 µV, (N, electrodes, samples) for whole windows or (N, samples) for single electrodes, with
`metadata` of one row each (a data frame, or name → N values). Nothing that is written depends on the time of day but
the identifier that MNE puts into each FIF file.
"""

from __future__ import annotations

import json
import math
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
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
from signal_diffusion.data.foreign.picture_folder import write_pictures
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import mne

__all__ = [
    "FORMATS",
    "Metadata",
    "channel_names",
    "check_formats",
    "edf_step",
    "formats_named",
    "reassembled",
    "to_mne",
    "to_raw",
    "with_names",
    "write",
]

Signals = np.ndarray | Tensor
Metadata = pd.DataFrame | Mapping[str, Any] | None

_VOLTS = 1e-6  # per µV
_ROWS_PER_GROUP = 256
_EDF_LARGEST = 32767  # and the smallest is its negative, so that 0 µV is written as 0
_EDF_NAME = 16  # characters of a channel's label


def to_mne(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> mne.EpochsArray:
    """Turn signals into `mne.EpochsArray`: volts, names, positions of the 10-20 system, a window per epoch.

    A single electrode is named by `metadata["electrode"]` where that is the same in all rows, else "EEG". Events are
    named by `metadata["label"]`, with the codes 1, 2, … of the card's labels ("unlabelled" comes after them), or
    "sample" where there are no labels. Raises `UserError` where the card is of pictures without signals, or does not
    fit them.
    """
    import mne

    signals, frame = _checked(samples, card, metadata)
    events = np.zeros((len(signals), 3), dtype=int)
    events[:, 0] = np.arange(len(signals)) * signals.shape[-1]
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
        tmin=0.0,
        metadata=frame if len(frame.columns) else None,
        baseline=None,
        verbose="error",
    )


def to_raw(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> mne.io.RawArray:
    """Turn signals into `mne.io.RawArray`: windows one after the other, as `to_mne` makes them.

    An annotation "label/NAME" spans each window whose label is known ("label/", since MNE leaves out whatever is
    annotated with a word that begins with "bad"). "BAD boundary" and "EDGE boundary" stand where a window does not
    continue the one before it; generated ones never do.
    """
    import mne

    signals, frame = _checked(samples, card, metadata)
    info = _info(signals, card, frame)
    joined = signals.transpose(1, 0, 2).reshape(signals.shape[1], -1)  # (electrodes, N · samples)
    raw = mne.io.RawArray(joined.astype(np.float64) * _VOLTS, info, verbose="error")
    seconds = signals.shape[-1] / info["sfreq"]
    onsets = np.arange(len(signals)) * seconds
    labelled = [
        (onset, f"label/{label}") for onset, label in zip(onsets, frame.get("label", ()), strict=False) if label
    ]
    breaks = onsets[~_continues(frame, card)]
    raw.set_annotations(
        mne.Annotations([onset for onset, _ in labelled], seconds, [text for _, text in labelled])
        + mne.Annotations(breaks, 0.0, "BAD boundary")
        + mne.Annotations(breaks, 0.0, "EDGE boundary"),
        verbose="error",
    )
    return raw


def channel_names(samples: Signals, card: DatasetCard, metadata: Metadata = None) -> list[str]:
    """The electrodes of signals, in order, as `to_mne` names them."""
    signals, frame = _checked(samples, card, metadata)
    return _channel_names(signals, card, frame)


def reassembled(examples: Signals, card: DatasetCard, metadata: Metadata) -> tuple[np.ndarray, pd.DataFrame]:
    """Put the examples of single electrodes, signals or tensors (N · E, *), together to whole windows (N, E, *).

    `metadata` has the columns `recording`, `window` and `electrode` (and `dataset`, of merged ones). Windows are in the
    order of their first examples, electrodes in the card's; of the other columns a window takes the values of its
    first example. Raises a `UserError` that names a window with an electrode missing, unknown or there twice.
    """
    values = _array(examples)
    frame = _frame(metadata, card, len(values))
    if missing := [name for name in ("recording", "window", "electrode") if name not in frame]:
        raise UserError(f"metadata: no column {', '.join(missing)}; windows are put together by them")
    place = {name: index for index, name in enumerate(card.channels)}
    if unknown := set(frame["electrode"]) - place.keys():
        raise UserError(f"metadata: electrode {min(map(str, unknown))} is not one of the card's")
    keys = [name for name in ("dataset", "recording", "window") if name in frame]
    window = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    electrode = frame["electrode"].map(place).to_numpy()
    found = np.zeros((window.max(initial=-1) + 1, len(place)), dtype=int)
    np.add.at(found, (window, electrode), 1)
    for number in np.flatnonzero((found != 1).any(axis=1))[:1]:
        wrong = int(np.flatnonzero(found[number] != 1)[0])
        where = ", ".join(f"{name} {frame[name][window == number].iloc[0]}" for name in keys)
        raise UserError(
            f"{where}: electrode {card.channels[wrong]} is there {found[number][wrong]} times; expected once"
        )
    whole = np.empty((*found.shape, *values.shape[1:]), values.dtype)
    whole[window, electrode] = values
    return whole, frame.drop_duplicates(keys).drop(columns="electrode").reset_index(drop=True)


def formats_named(text: str) -> tuple[str, ...]:
    """Read a list such as "npz,fif"; raises a `UserError` that names those there are."""
    names = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise UserError(f"--format: there is no {name!r}; use one of: {', '.join(FORMATS)}")
    return names


def check_formats(formats: Sequence[str], card: DatasetCard) -> None:
    """Raise a `UserError` where signals of such a card cannot be written in one of the formats."""
    for name in formats:
        if name not in OF_TENSORS:
            _check_signals(card, f"--format {name}", "use npz or png, which hold the tensors")
    if "edf" in formats and not float(card.sampling_rate or 0).is_integer():
        raise UserError(
            f"--format edf: a rate of {card.sampling_rate:g} Hz, and EDF has whole ones; use fif or parquet"
        )
    if "edf" in formats and (long := [name for name in card.channels if len(name) > _EDF_NAME]):
        raise UserError(f"--format edf: channel {long[0]} has more than {_EDF_NAME} characters; use fif or parquet")


def write(
    stem: Path,
    samples: Signals | None,
    card: DatasetCard,
    metadata: Metadata = None,
    format: str = "npz",
    *,
    tensors: Signals | None = None,
) -> Path:
    """Write samples as one file or folder, `stem` with the format's ending, over what is there; returns its path.

    npz
        `tensors` (N, C, H, W) where given, `signals` in µV, `sampling_rate` in Hz, `ch_names`, and an array per column
        of the metadata, with "" or NaN for what is unknown. Without signals: tensors and metadata alone.
    parquet
        A column `signal` of nested lists (electrodes, samples), float32 µV, and one per column of the metadata; the
        file's key-value metadata has `sampling_rate`, `ch_names` and `unit`, each as JSON.
    fif
        `to_mne`'s epochs, float32, as STEM-epo.fif.
    edf
        `to_raw`'s recording, labels as annotations of EDF+; 16 bits over a range that nothing exceeds, so values are
        off by half an `edf_step` at most. Up to a second of edge values fills the last record, "BAD_ACQ_SKIP".
    png
        A folder with a picture per sample, 8 bits a value from -1 to 1, and `metadata.csv`: file_name and a column per
        one of the metadata, empty for what is unknown. Tensors of one channel are grey, as `Representation.picture`
        shows them, those of three are red, green and blue. So `datasets` reads it as an "imagefolder", and an
        experiment as `docs/pictures.md` says.

    Raises `UserError` where there are no signals for a format that needs them, or it cannot hold them.
    """
    [name] = formats_named(format)
    check_formats([name], card)
    if samples is None:
        if name not in OF_TENSORS or tensors is None:
            raise UserError(f"--format {name}: there are no signals to write")
        out = _Samples(card=card, signals=None, tensors=_array(tensors), frame=_frame(metadata, card, len(tensors)))
    else:
        _, frame = _checked(samples, card, metadata)
        given = None if tensors is None else _array(tensors)
        out = _Samples(card=card, signals=_array(samples).astype(np.float32, copy=False), tensors=given, frame=frame)
    path = stem.with_name(stem.name + FORMATS[name].ending)
    FORMATS[name].write(path, out)
    return path


def edf_step(samples: Signals) -> float:
    """Say how many µV lie between neighbouring values of the EDF file of these signals.

    The range is ± the largest magnitude, rounded up to whole µV (one, for silence), the same for all channels.
    """
    return _edf_range(_array(samples)) / _EDF_LARGEST


def with_names(values: pd.Series, names: Sequence[str] | None) -> pd.Series:
    """Give a column as names or numbers: codes of `names` as names, None for what is unknown ("", NaN, -1)."""
    if names is not None and pd.api.types.is_numeric_dtype(values):  # floats, where pandas had to write NaN
        if (values >= len(names)).any():
            raise UserError(f"{values.name}: found {values.max():g}, and there are names for {len(names)} values")
        return pd.Series([names[int(code)] if code >= 0 else None for code in values], dtype=object)
    if pd.api.types.is_numeric_dtype(values):
        return values
    return pd.Series([None if pd.isna(value) or value == "" else value for value in values], dtype=object)


@dataclass(frozen=True, kw_only=True)
class _Samples:
    """What a writer gets."""

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
    _refuse_taken(out.frame, {*arrays, "tensors", "signals"}, path)
    for name, values in out.frame.items():
        text = values.dtype == object
        arrays[str(name)] = np.array(["" if v is None else str(v) for v in values]) if text else values.to_numpy()
    # As `np.savez` does, which takes some names of columns ("file") for arguments of its own.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def _write_parquet(path: Path, out: _Samples) -> None:
    _refuse_taken(out.frame, {"signal"}, path)
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
    if not np.isfinite(out.windows).all():
        raise UserError(f"{path}: the samples have values that are not finite, which EDF cannot hold; use npz")
    from mne.export import export_raw

    limit = _edf_range(out.windows)
    raw = to_raw(out.windows, out.card, out.frame)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*requires equal-length data blocks.*")  # told in `write`
        export_raw(path, raw, fmt="edf", physical_range=(-limit, limit), overwrite=True, verbose="error")


def _write_png(path: Path, out: _Samples) -> None:
    if out.tensors is None:
        raise UserError(f"{path}: there are no tensors to draw; expected them beside the signals")
    _refuse_taken(out.frame, {"file_name"}, path)
    write_pictures(path, torch.from_numpy(out.tensors), out.frame, representation_of(out.card))


def _edf_range(signals: np.ndarray) -> int:
    return max(1, math.ceil(np.abs(signals).max(initial=0)))


FORMATS: dict[str, _Format] = {
    "npz": _Format(ending=".npz", write=_write_npz),
    "parquet": _Format(ending=".parquet", write=_write_parquet),
    "fif": _Format(ending="-epo.fif", write=_write_fif),
    "edf": _Format(ending=".edf", write=_write_edf),
    "png": _Format(ending="", write=_write_png),
}
OF_TENSORS = ("npz", "png")
"""Formats that need no signals."""


def _refuse_taken(frame: pd.DataFrame, taken: set[str], path: Path) -> None:
    if both := sorted(taken & {str(name) for name in frame}):
        raise UserError(
            f"{path}: the metadata's column {both[0]} has the name of what the file itself holds; rename it"
        )


def _array(values: Signals) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check_signals(card: DatasetCard, where: str, advice: str) -> None:
    if card.representation["inverse"] == "none" or card.sampling_rate is None:
        raise UserError(f"{where}: {card.representation['name']} of this dataset do not become signals; {advice}")


def _checked(samples: Signals, card: DatasetCard, metadata: Metadata) -> tuple[np.ndarray, pd.DataFrame]:
    """The signals as (N, electrodes, samples) and the metadata, where they fit each other and the card."""
    _check_signals(card, "export", "there is nothing to export but the tensors")
    signals = _array(samples)
    if signals.ndim not in (2, 3):
        raise UserError(f"signals of shape {signals.shape}; expected (N, electrodes, samples) or (N, samples)")
    if signals.ndim == 3 and signals.shape[1] not in (1, len(card.channels)):
        raise UserError(f"signals of {signals.shape[1]} electrodes; the card has {len(card.channels)}")
    return signals if signals.ndim == 3 else signals[:, None], _frame(metadata, card, len(signals))


def _frame(metadata: Metadata, card: DatasetCard, count: int) -> pd.DataFrame:
    """The metadata with names for codes and None for unknown, a row per sample."""
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
    # Ignored: names that the 10-20 system does not know, which stay without a position.
    info.set_montage("standard_1020", match_case=False, on_missing="ignore", verbose="error")
    with info._unlock():  # MNE has no other way to tell of filters that it did not apply itself
        if "band" in card.preprocessing:
            info["highpass"], info["lowpass"] = map(float, card.preprocessing["band"])
        if card.preprocessing.get("reference", "none") != "none":  # an average too, as `set_eeg_reference` has it
            info["custom_ref_applied"] = mne.io.constants.FIFF.FIFFV_MNE_CUSTOM_REF_ON
    return info


def _continues(frame: pd.DataFrame, card: DatasetCard) -> np.ndarray:
    """Whether each window (N,) follows on the one before it in a recording; the first one breaks nothing."""
    follows = np.zeros(len(frame), dtype=bool)
    follows[:1] = True
    if card.preprocessing.get("overlap") == 0 and {"recording", "window"} <= set(frame):
        same = [name for name in ("dataset", "recording", "electrode") if name in frame]
        before = frame.shift()
        follows |= (frame[same] == before[same]).all(axis=1) & (frame["window"] == before["window"] + 1)
    return follows
