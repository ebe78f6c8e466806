"""Writers of exported files, one per format.

The output is deterministic, except for the identifier that MNE writes to each FIF file.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.edf_files import check_edf_values, save_edf
from signal_diffusion.data.export.mne_objects import to_mne, to_raw
from signal_diffusion.data.export.signals import electrode_names
from signal_diffusion.data.foreign.image_folder import eight_bits, write_images
from signal_diffusion.data.writing_splits import nested
from signal_diffusion.errors import UserError

__all__ = ["ExportedSamples", "write_edf", "write_fif", "write_npz", "write_parquet", "write_png"]

_ROWS_PER_GROUP = 256


@dataclass(frozen=True, kw_only=True)
class ExportedSamples:
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


def write_npz(path: Path, out: ExportedSamples) -> None:
    """Write arrays of numbers and text, without pickles."""
    arrays: dict[str, np.ndarray] = {} if out.tensors is None else {"tensors": out.tensors}
    if out.signals is not None:
        arrays["signals"] = out.signals
        arrays["sampling_rate"] = np.array(out.card.sampling_rate)
        arrays["ch_names"] = np.array(electrode_names(out.windows, out.card, out.frame))
    _refuse_reserved(out.frame, {*arrays, "tensors", "signals"}, path)
    for name, values in out.frame.items():
        text = values.dtype == object
        arrays[str(name)] = np.array(["" if v is None else str(v) for v in values]) if text else values.to_numpy()
    # Like `np.savez`, which cannot be used: a column named "file" would collide with its argument.
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def write_parquet(path: Path, out: ExportedSamples) -> None:
    """Write one row per window, with nested lists of signals."""
    _refuse_reserved(out.frame, {"signal"}, path)
    columns = {str(name): pa.array(values.tolist(), from_pandas=True) for name, values in out.frame.items()}
    columns = {name: each.cast(pa.string()) if pa.types.is_null(each.type) else each for name, each in columns.items()}
    about = {
        "sampling_rate": out.card.sampling_rate,
        "ch_names": electrode_names(out.windows, out.card, out.frame),
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


def write_fif(path: Path, out: ExportedSamples) -> None:
    """Write epochs."""
    to_mne(out.windows, out.card, out.frame).save(path, fmt="single", overwrite=True, verbose="error")


def write_edf(path: Path, out: ExportedSamples) -> None:
    """Write one recording; raises `UserError` for values that EDF cannot store."""
    check_edf_values(out.windows, str(path))
    save_edf(path, to_raw(out.windows, out.card, out.frame), out.windows)


def write_png(path: Path, out: ExportedSamples) -> None:
    """Write one image per tensor, grey or red, green and blue; raises `UserError` if tensors are none of these."""
    if out.tensors is None:
        raise UserError(f"{path}: there are no tensors to write as images; use another format")
    if out.card.representation["layout"] == "window":
        raise UserError(f"{path}: time series are no images; use another format")
    _refuse_reserved(out.frame, {"file_name"}, path)
    tensors = torch.from_numpy(out.tensors)
    images = (tensor.permute(1, 2, 0) if len(tensor) == 3 else tensor[0] for tensor in tensors)
    write_images(path, map(eight_bits, images), out.frame)


def _refuse_reserved(frame: pd.DataFrame, reserved: set[str], path: Path) -> None:
    if both := sorted(reserved & {str(name) for name in frame}):
        raise UserError(
            f"{path}: the metadata has a column {both[0]}, a name that the file itself uses; rename the column"
        )
