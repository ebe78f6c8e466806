"""Samples as files: in the formats of `data.export`, and as pictures for the eye."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from signal_diffusion.data import export
from signal_diffusion.figures.pixels import draw_animation, draw_grid
from signal_diffusion.figures.samples import Row, draw_latents, draw_samples
from signal_diffusion.sampling.samples import Samples

__all__ = ["SampleFiles", "write_samples"]

WINDOWS_SHOWN = 4
MOST_AVERAGED = 1024
"""Samples of a row whose mean and spectrum are shown, so that pictures take no memory to speak of."""


@dataclass(frozen=True, kw_only=True)
class SampleFiles:
    """Which files to write next to `samples.json` and `samples.png`."""

    formats: Sequence[str] = ("npz",)
    """Of `export.FORMATS`."""
    grid_nrow: int | None = None
    """Samples in a row of `grid.png`; None = no such file."""
    animation: bool = False
    """`trajectory.gif`, which shows how the first samples emerge from noise; they are generated twice for it."""


def write_samples(
    folder: Path,
    samples: Samples,
    *,
    files: SampleFiles,
    about: Mapping[str, Any],
    title: str,
    electrodes: int = 0,
    frames: Sequence[tuple[Tensor, Tensor]] = (),
) -> list[str]:
    """Write `samples.*` in each format, `samples.json`, `samples.png` and what else is asked for; returns their names.

    Parameters
    ----------
    about
        What `samples.json` says.
    title
        Of the pictures.
    electrodes
        So many samples in a row are a window, which is one sample of all formats but png; 0 = each stands alone.
    frames
        Of `trajectory.gif`.
    """
    whole = samples.as_windows(electrodes)
    signals = whole.signals
    written = []
    for name in files.formats:
        content, table = whole.tensors, whole.columns
        if name == "png":
            content, table = samples.tensors, _numbered(samples, electrodes)
        of_signals = None if name == "png" else signals
        path = export.write(folder / "samples", of_signals, samples.card, table, name, tensors=content)
        written.append(path.name)
    step = {"edf_step_microvolts": export.edf_step(signals)} if "edf" in files.formats and signals is not None else {}
    (folder / "samples.json").write_text(json.dumps({**about, **step}, indent=2, ensure_ascii=False) + "\n", "utf-8")
    draw_samples(folder / "samples.png", _rows(samples, electrodes), samples.representation, title=title)
    written += ["samples.json", "samples.png"]
    if samples.latents is not None:
        draw_latents(folder / "latents.png", samples.latents, title=title)
        written.append("latents.png")
    if files.grid_nrow is not None:
        draw_grid(folder / "grid.png", samples.tensors, samples.representation, per_row=files.grid_nrow)
        written.append("grid.png")
    if frames:
        draw_animation(folder / "trajectory.gif", frames, samples.representation)
        written.append("trajectory.gif")
    return written


def _numbered(samples: Samples, electrodes: int) -> dict[str, np.ndarray]:
    """The columns of single pictures, and which window each is of."""
    if not electrodes:
        return samples.columns
    return {"window": np.arange(len(samples.tensors)) // electrodes, **samples.columns}


def _rows(samples: Samples, electrodes: int) -> list[Row]:
    """A row per class where the class is all there is to ask for, or per window; else one."""
    tensors, columns = samples.tensors, samples.columns
    if electrodes:
        windows = tensors.split(electrodes)[:WINDOWS_SHOWN]
        return [Row(title=f"window {number}", samples=window) for number, window in enumerate(windows)]
    if len(columns) != 1 or next(iter(columns.values())).dtype.kind != "U":
        return [Row(title="samples", samples=tensors[:MOST_AVERAGED])]
    [(name, values)] = columns.items()
    return [
        Row(title=f"{name}: {value}", samples=tensors[np.flatnonzero(values == value)[:MOST_AVERAGED]])
        for value in np.unique(values)
    ]
