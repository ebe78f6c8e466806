"""Helpers that write recordings for tests, and read them."""

from dataclasses import replace
from pathlib import Path

import mne
import numpy as np

from signal_diffusion.data.recordings.finding import find
from signal_diffusion.data.recordings.read_options import ReadOptions
from signal_diffusion.data.recordings.reading import Reading, read_recording
from signal_diffusion.data.recordings.recording import Recording

OPTIONS = ReadOptions(
    channels=("Fz", "Cz", "Pz"),
    reference="none",
    band=(0.5, 60.0),
    notch=(),
    sampling_rate=125.0,
    min_samples=256,
    flat_below=0.1,
)


def noise(
    names: list[str], sfreq: float = 250.0, seconds: float = 8.0, types: str | list[str] = "eeg", seed: int = 0
) -> mne.io.Raw:
    microvolts = 20 * np.random.default_rng(seed).standard_normal((len(names), round(sfreq * seconds)))
    return mne.io.RawArray(microvolts * 1e-6, mne.create_info(names, sfreq, types), verbose="ERROR")


def write_edf(path: Path, raw: mne.io.Raw) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mne.export.export_raw(path, raw, physical_range=(-500, 500), overwrite=True, verbose="ERROR")
    return path


def write_fif(path: Path, raw: mne.io.Raw) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.save(path, overwrite=True, verbose="ERROR")
    return path


def the_recording(path: Path) -> Recording:
    (recording,) = find(path).recordings
    return recording


def staged(path: Path, output: Path, **changes: object) -> tuple[np.ndarray, Reading]:
    reading = read_recording(the_recording(path), replace(OPTIONS, **changes), output)
    return np.load(output), reading
