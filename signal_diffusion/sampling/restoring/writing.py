"""Files of a restored recording: for MNE and other programs, the spread of the draws, and a picture."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.export.edf_files import check_edf_values, save_edf
from signal_diffusion.data.export.format_limits import check_limits
from signal_diffusion.errors import UserError
from signal_diffusion.figures.restoration import draw_restoration
from signal_diffusion.sampling.restoring.excerpts import excerpts_of
from signal_diffusion.sampling.restoring.mapped import mapped
from signal_diffusion.sampling.restoring.plan import Plan
from signal_diffusion.sampling.restoring.result import Restoration

if TYPE_CHECKING:
    import mne

__all__ = ["FORMATS", "check_formats", "write_restoration"]

FORMATS = ("fif", "edf")
QUANTILES = (0.1, 0.9)
"""Ends of the 80 % interval."""
_STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda draws: draws.mean(axis=0),
    "std": lambda draws: draws.std(axis=0, ddof=1),
    "q10": lambda draws: np.quantile(draws, QUANTILES[0], axis=0),
    "q90": lambda draws: np.quantile(draws, QUANTILES[1], axis=0),
}


def check_formats(formats: Sequence[str], plan: Plan) -> None:
    """Raise a `UserError` for an unknown format, or one that cannot store what is written."""
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"--format: unknown format {name!r}; use {' or '.join(FORMATS)}")
        others = " and ".join(each for each in FORMATS if each != name)
        check_limits(name, plan.written, plan.recorded_sfreq, advice=f"use {others}")


def write_restoration(folder: Path, restoration: Restoration, formats: Sequence[str], *, title: str) -> list[str]:
    """Write a restored recording; returns the names of the files.

    restored_raw.fif, restored.edf
        What was given and the mean of the draws at the recording's rate, with annotations (`Restoration.raw`); FIF in
        single precision.
    restored.npz
        Only what was restored: `mean`, `std`, `q10` and `q90` (electrodes, samples) and `draws` (draws, electrodes,
        samples) at the model's rate, µV float32, NaN where values were given; `ch_names`, `times` in s and `sfreq` in
        Hz.
    restored.json
        How it was made.
    restored.png
        Excerpts: what was given, the mean and the 80 % interval of the draws, and spherical splines.
    """
    drawn = restoration.at_model_rate
    with tempfile.TemporaryDirectory(dir=folder) as work:
        mean = restoration.statistic(_STATISTICS["mean"], out=mapped(Path(work, "written.npy"), restoration.shape))
        raw = restoration.raw(mean, out=mapped(Path(work, "volts.npy"), restoration.shape, np.float64))
        names = [_WRITERS[name](folder, raw, mean) for name in formats]
        statistics = {
            name: drawn.statistic(of, out=mapped(Path(work, f"{name}.npy"), drawn.shape))
            for name, of in _STATISTICS.items()
        }
        _write_npz(folder / "restored.npz", drawn, statistics)
        draw_restoration(folder / "restored.png", excerpts_of(drawn, statistics), title=title)
    about = json.dumps(restoration.about, indent=2, ensure_ascii=False)
    (folder / "restored.json").write_text(about + "\n", "utf-8")
    return [*names, "restored.npz", "restored.json", "restored.png"]


def _write_fif(folder: Path, raw: mne.io.RawArray, mean: np.ndarray) -> str:
    raw.save(folder / "restored_raw.fif", fmt="single", verbose="error")
    return "restored_raw.fif"


def _write_edf(folder: Path, raw: mne.io.RawArray, mean: np.ndarray) -> str:
    check_edf_values(mean, "--format edf", advice="use fif")
    save_edf(folder / "restored.edf", raw, mean)
    return "restored.edf"


_WRITERS: dict[str, Callable[[Path, mne.io.RawArray, np.ndarray], str]] = {"fif": _write_fif, "edf": _write_edf}


def _write_npz(path: Path, restoration: Restoration, statistics: Mapping[str, np.ndarray]) -> None:
    """Write what was restored, one array after the other, so that they are never in memory together."""
    missing = restoration.missing
    rows, columns = np.flatnonzero(missing.any(axis=1)), np.flatnonzero(missing.any(axis=0))
    shown = missing[np.ix_(rows, columns)]
    names = np.array([restoration.ch_names[row] for row in rows])
    others = {"ch_names": names, "times": columns / restoration.plan.sfreq, "sfreq": np.array(restoration.plan.sfreq)}

    def restored(values: np.ndarray) -> np.ndarray:
        return np.where(shown, values[np.ix_(rows, columns)], np.float32("nan"))

    count = restoration.values.count
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shown.shape)}
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*statistics, *others):
            array = others[name] if name in others else restored(statistics[name])
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        with archive.open(zipfile.ZipInfo("draws.npy"), "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for number in range(count):
                file.write(restored(restoration.signal(number)).astype("<f4").tobytes())
