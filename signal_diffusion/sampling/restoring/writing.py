"""Files of a restored recording: for MNE and other programs, the spread of the draws, and a picture."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from signal_diffusion.data.export.edf_files import check_edf_values, save_edf
from signal_diffusion.data.export.format_limits import check_limits
from signal_diffusion.errors import UserError
from signal_diffusion.figures.restoration import draw_restoration
from signal_diffusion.sampling.restoring.excerpts import excerpts_of
from signal_diffusion.sampling.restoring.plan import Plan
from signal_diffusion.sampling.restoring.result import Restoration

__all__ = ["FORMATS", "check_formats", "write_restoration"]

FORMATS = ("fif", "edf")
QUANTILES = (0.1, 0.9)
"""Ends of the 80 % interval."""


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
    mean = restoration.statistic(lambda draws: draws.mean(axis=0))
    names = [_WRITERS[name](folder, restoration, mean) for name in formats]
    drawn = restoration.at_model_rate
    statistics = {
        "mean": mean if drawn is restoration else drawn.statistic(lambda draws: draws.mean(axis=0)),
        "std": drawn.statistic(lambda draws: draws.std(axis=0, ddof=1)),
        "q10": drawn.statistic(lambda draws: np.quantile(draws, QUANTILES[0], axis=0)),
        "q90": drawn.statistic(lambda draws: np.quantile(draws, QUANTILES[1], axis=0)),
    }
    _write_npz(folder / "restored.npz", drawn, statistics)
    about = json.dumps(restoration.about, indent=2, ensure_ascii=False)
    (folder / "restored.json").write_text(about + "\n", "utf-8")
    draw_restoration(folder / "restored.png", excerpts_of(drawn, statistics), title=title)
    return [*names, "restored.npz", "restored.json", "restored.png"]


def _write_fif(folder: Path, restoration: Restoration, mean: np.ndarray) -> str:
    restoration.raw(mean).save(folder / "restored_raw.fif", fmt="single", verbose="error")
    return "restored_raw.fif"


def _write_edf(folder: Path, restoration: Restoration, mean: np.ndarray) -> str:
    check_edf_values(mean, "--format edf", advice="use fif")
    save_edf(folder / "restored.edf", restoration.raw(mean), mean)
    return "restored.edf"


_WRITERS: dict[str, Callable[[Path, Restoration, np.ndarray], str]] = {"fif": _write_fif, "edf": _write_edf}


def _write_npz(path: Path, restoration: Restoration, statistics: dict[str, np.ndarray]) -> None:
    """Write what was restored, one draw after the other, so that they are never in memory together."""
    missing = restoration.missing
    rows, columns = np.flatnonzero(missing.any(axis=1)), np.flatnonzero(missing.any(axis=0))
    shown = missing[np.ix_(rows, columns)]
    arrays = {
        name: np.where(shown, values[np.ix_(rows, columns)], np.float32("nan")) for name, values in statistics.items()
    }
    arrays["ch_names"] = np.array([restoration.ch_names[row] for row in rows])
    arrays["times"] = columns / restoration.plan.sfreq
    arrays["sfreq"] = np.array(restoration.plan.sfreq)
    count = restoration.values.count
    header = {"descr": "<f4", "fortran_order": False, "shape": (count, *shown.shape)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        with archive.open(zipfile.ZipInfo("draws.npy"), "w", force_zip64=True) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for number in range(count):
                values = restoration.signal(number)[np.ix_(rows, columns)]
                file.write(np.where(shown, values, np.float32("nan")).astype("<f4").tobytes())
