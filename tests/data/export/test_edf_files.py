"""EDF files are read back to half a step, with filters, names and labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.edf_files import edf_step
from signal_diffusion.data.export.file_formats import write_file

MICROVOLTS = 1e6


def test_edf_records_filters(card: DatasetCard, windows: np.ndarray, tmp_path: Path, metadata: dict[str, Any]) -> None:
    recorded = replace(card, preprocessing={"band": [0.5, 40.0], "reference": "average"})
    path = write_file(tmp_path / "samples", windows, recorded, metadata, "edf")
    info = mne.io.read_raw_edf(path, verbose="error").info
    assert (info["highpass"], info["lowpass"]) == (0.5, 40.0)


def test_edf_is_read_back_to_half_a_step(
    card: DatasetCard, windows: np.ndarray, tmp_path: Path, metadata: dict[str, Any]
) -> None:
    path = write_file(tmp_path / "samples", windows, card, metadata, "edf")
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    joined = windows.transpose(1, 0, 2).reshape(19, -1)
    step = edf_step(windows)
    assert step == 313 / 32767  # µV, 1/65534 of the range that contains the blink
    error = np.abs(raw.get_data()[:, : joined.shape[1]] * MICROVOLTS - joined)
    assert error.max() <= step / 2 * (1 + 1e-6)
    assert tuple(raw.ch_names) == card.channels and raw.info["sfreq"] == 125.0
    written = {(round(each["onset"], 3), each["description"]) for each in raw.annotations}
    assert {(0.0, "label/alert"), (16.384, "label/relaxed"), (16.384, "BAD boundary")} <= written


def test_silence_and_a_single_electrode_can_be_written(card: DatasetCard, tmp_path: Path) -> None:
    path = write_file(tmp_path / "samples", np.zeros((2, 2048)), card, {"electrode": ["Pz", "Pz"]}, "edf")
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    assert raw.ch_names == ["Pz"] and not raw.get_data().any()
