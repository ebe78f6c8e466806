"""The formats of --format (npz, parquet, fif, edf, png): what each can hold, and writing a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.format_limits import check_limits
from signal_diffusion.data.export.signals import (
    Metadata,
    Signals,
    as_numpy,
    check_invertible,
    checked_signals,
    metadata_frame,
)
from signal_diffusion.data.export.writers import (
    ExportedSamples,
    write_edf,
    write_fif,
    write_npz,
    write_parquet,
    write_png,
)
from signal_diffusion.errors import UserError

__all__ = ["FORMATS", "check_formats", "parse_formats", "write_file"]


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
            check_invertible(card, f"--format {name}", "use npz or png, which store the tensors")
            check_limits(name, card.channels, card.sampling_rate or 0, labels, num * (card.window or 0))


def write_file(
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
        The epochs of `mne_objects.to_mne`, float32, as STEM-epo.fif.
    edf
        The recording of `mne_objects.to_raw`, with labels as EDF+ annotations; 16 bits over the range of the signals,
        so the error is at most half an `edf_files.edf_step`. Up to a second of edge values pads the last record, marked
        "BAD_ACQ_SKIP".
    png
        A folder with one image per sample, 8 bits for values from -1 to 1, and `metadata.csv`: file_name and the
        metadata columns, empty for unknown values. Tensors of one channel become grey images; three
        channels become red, green and blue. `datasets` reads the folder as an "imagefolder", and so does an experiment
        (`docs/pictures.md`). Time series are no images and are refused; `sampling.writing` draws them as traces.

    Raises `UserError` if a format needs signals and there are none, or cannot store these values.
    """
    [name] = parse_formats(format)
    check_formats([name], card)
    if samples is None:
        if name not in TENSOR_FORMATS or tensors is None:
            raise UserError(f"--format {name}: there are no signals to write; use npz or png")
        out = ExportedSamples(
            card=card, signals=None, tensors=as_numpy(tensors), frame=metadata_frame(metadata, card, len(tensors))
        )
    else:
        _, frame = checked_signals(samples, card, metadata)
        labels = [label for label in frame.get("label", pd.Series()).unique() if label is not None]
        check_formats([name], card, labels=labels, num=len(frame))
        given = None if tensors is None else as_numpy(tensors)
        out = ExportedSamples(
            card=card, signals=as_numpy(samples).astype(np.float32, copy=False), tensors=given, frame=frame
        )
    path = stem.with_name(stem.name + FORMATS[name].ending)
    FORMATS[name].write(path, out)
    return path


@dataclass(frozen=True, kw_only=True)
class _Format:
    ending: str
    write: Callable[[Path, ExportedSamples], None]


FORMATS: dict[str, _Format] = {
    "npz": _Format(ending=".npz", write=write_npz),
    "parquet": _Format(ending=".parquet", write=write_parquet),
    "fif": _Format(ending="-epo.fif", write=write_fif),
    "edf": _Format(ending=".edf", write=write_edf),
    "png": _Format(ending="", write=write_png),
}
TENSOR_FORMATS = ("npz", "png")
"""Formats that do not need signals."""
