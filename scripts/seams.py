"""Measure and draw the borders of windows in recordings of `sample --duration`, next to real recordings.

    uv run python scripts/seams.py DATASET:test SAMPLES... --figure seams.png

The floor has the real recordings of a split of a dataset, cut at the same places (see `evaluation/seams.py`); their
windows overlap by half or not at all. `--patch 32` also measures the borders of the network's patches of 32 samples
inside windows: what is no better there is no fault of how windows continue each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from signal_diffusion.data.stored_signals import open_signals
from signal_diffusion.errors import UserError, report_user_errors
from signal_diffusion.evaluation.reading import split_of
from signal_diffusion.evaluation.seams import seam_floor, seams

SHOWN = 0.5
"""s before and after a border in the figure."""


def main(
    real: Annotated[str, typer.Argument(metavar="DATASET:SPLIT", help="Real recordings.")],
    samples: Annotated[list[Path], typer.Argument(help="Folders that `sample --duration` wrote, with samples.npz.")],
    patch: Annotated[int | None, typer.Option(min=1, help="Samples of a patch, to measure borders of patches.")] = None,
    figure: Annotated[Path | None, typer.Option(help="PNG to write.")] = None,
) -> None:
    """Print jump, envelope and spectrum at borders, and those of real recordings (95 % interval)."""
    print(f"{'':24} {'jump':>16} {'envelope':>16} {'spectrum (dB)':>16}")
    curves = {}
    for folder in samples:
        about = json.loads((folder / "samples.json").read_text())
        borders = about["borders"]
        with np.load(folder / "samples.npz") as file:
            signals, sfreq = file["signals"], float(file["sampling_rate"])
        recorded = real_recordings(*split_of(real, "test"), signals.shape[-1])
        low, high = seam_floor(recorded, borders, sfreq, count=len(signals))
        found = seams(signals, borders, sfreq)
        names = ("jump", "envelope", "spectrum")
        print(f"{folder.name:24} " + " ".join(f"{getattr(found, name):16.2f}" for name in names))
        if patch:
            inner = [each for each in range(borders[0], borders[-1], patch) if each not in borders]
            print(f"{'  patches inside windows':24} {seams(signals, inner, sfreq).jump:16.2f}")
        floor = [f"{getattr(low, name):.2f} to {getattr(high, name):.2f}" for name in names]
        print(f"{f'  {len(recorded)} real recordings':24} " + " ".join(f"{each:>16}" for each in floor))
        curves |= {folder.name: jumps_around(signals, borders, sfreq), "real": jumps_around(recorded, borders, sfreq)}
    if figure:
        draw(figure, curves, sfreq)


def real_recordings(root: Path, split: str, samples: int) -> np.ndarray:
    """The beginning of each recording of a split that is long enough, (N, electrodes, samples), µV."""
    stored, found = open_signals(root), []
    step = 2 if stored.card.preprocessing.get("overlap") == 0.5 else 1
    for windows, frame in stored.recordings():
        numbers = frame["window"].to_numpy()
        needed = np.arange(0, step * -(-samples // windows.shape[-1]), step)
        if frame["split"].iloc[0] == split and np.isin(needed, numbers).all():
            whole = np.concatenate([windows[numbers == number][0] for number in needed], axis=-1)
            found.append(whole[:, :samples])
    if not found:
        raise UserError(f"{root}: {split} has no recording of {samples} samples without a rejected window")
    return np.stack(found)


def jumps_around(signals: np.ndarray, borders: list[int], sfreq: float) -> np.ndarray:
    """Mean |x[t] − x[t − 1]| from `SHOWN` before to after borders ÷ its mean over all samples."""
    jumps = np.abs(np.diff(signals, axis=-1)).mean((0, 1))  # (samples − 1,)
    around = np.arange(-round(SHOWN * sfreq), round(SHOWN * sfreq) + 1)
    inside = [border for border in borders if around[-1] < border < len(jumps) - around[-1]]
    return jumps[np.array(inside)[:, None] - 1 + around].mean(0) / jumps.mean()


def draw(path: Path, curves: Mapping[str, np.ndarray], sfreq: float) -> None:
    """Write a PNG of the curves of `jumps_around`."""
    from matplotlib.figure import Figure

    image = Figure(figsize=(6, 3), layout="constrained")
    axis = image.subplots()
    for name, curve in curves.items():
        times = np.arange(len(curve)) / sfreq - SHOWN
        axis.plot(times, curve, "k--" if name == "real" else "-", label=name, linewidth=1.2)
    axis.set(xlabel="s from the border of a window", ylabel="mean |x[t] − x[t−1]| ÷ elsewhere")
    axis.grid(alpha=0.3)
    image.legend(fontsize="small", loc="outside upper center", ncols=len(curves))
    image.savefig(path, dpi=100)


if __name__ == "__main__":
    with report_user_errors():
        typer.run(main)
