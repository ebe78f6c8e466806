"""Write samples to files: in the formats of `data.export`, and as images to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.edf_files import edf_step
from signal_diffusion.data.export.file_formats import write_file
from signal_diffusion.data.export.signals import metadata_frame
from signal_diffusion.data.foreign.image_folder import write_images
from signal_diffusion.figures.grids import draw_animation, draw_grid
from signal_diffusion.figures.groups import ExampleSet, SampleGroup
from signal_diffusion.figures.latents import draw_latents
from signal_diffusion.figures.samples import draw_samples
from signal_diffusion.figures.trace_images import window_images
from signal_diffusion.sampling.samples import Samples

__all__ = ["SampleFiles", "write_about", "write_samples"]

WINDOWS_SHOWN = 4
MAX_AVERAGED = 1024
"""Largest number of samples in a row of `samples.png`, whose mean and spectrum it shows; limits memory."""


@dataclass(frozen=True, kw_only=True)
class SampleFiles:
    """Which files to write next to `samples.json` and `samples.png`."""

    formats: Sequence[str] = ("npz",)
    """Formats, from `file_formats.FORMATS`."""
    grid_nrow: int | None = None
    """Samples per row of `grid.png`; None = no `grid.png`."""
    animation: bool = False
    """Whether to write `trajectory.gif`: the first samples, from noise to data; generates them a second time."""


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
    """Write `samples.*` in each format, `samples.json`, `samples.png` and other requested files; returns their names.

    Parameters
    ----------
    about
        Content of `samples.json`, which also gets the card of the dataset.
    title
        Title of the images.
    electrodes
        Number of consecutive samples that form a window, which all formats except png store as one; 0 = no windows.
    frames
        Frames of `trajectory.gif`.
    """
    whole = samples.as_windows(electrodes)
    signals = whole.signals
    written = []
    for name in files.formats:
        if name == "png":
            written.append(_write_images(folder / "samples", samples, electrodes).name)
        else:
            path = write_file(folder / "samples", signals, samples.card, whole.columns, name, tensors=whole.tensors)
            written.append(path.name)
    step = {"edf_step_microvolts": edf_step(signals)} if "edf" in files.formats and signals is not None else {}
    write_about(folder, {**about, **step}, samples.card)
    draw_samples(folder / "samples.png", _rows(samples, electrodes), title=title)
    written += ["samples.json", "samples.png"]
    if samples.latents is not None:
        draw_latents(folder / "latents.png", samples.latents, title=title)
        written.append("latents.png")
    if files.grid_nrow is not None:
        draw_grid(folder / "grid.png", samples.tensors, samples.card, per_row=files.grid_nrow)
        written.append("grid.png")
    if frames:
        draw_animation(folder / "trajectory.gif", frames, samples.card)
        written.append("trajectory.gif")
    return written


def write_about(folder: Path, about: Mapping[str, Any], card: DatasetCard) -> None:
    """Write `samples.json`: how samples were made, and what the card says about their signals."""
    # What the signals are; the rest of the card is in the checkpoint.
    content = {**about, "dataset": asdict(replace(card.without_paths(), command="", skipped=[], files={}))}
    (folder / "samples.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _write_images(folder: Path, samples: Samples, electrodes: int) -> Path:
    """Write an image per sample: time series as traces to look at, everything else as the data itself, in 8 bits."""
    table = _with_window_numbers(samples, electrodes)
    if samples.representation.layout != "window":
        return write_file(folder, None, samples.card, table, "png", tensors=samples.tensors)
    assert samples.signals is not None
    images = window_images(samples.signals.numpy(), samples.card)
    write_images(folder, images, metadata_frame(table, samples.card, len(samples)))
    return folder


def _with_window_numbers(samples: Samples, electrodes: int) -> dict[str, np.ndarray]:
    """The columns of single images and, if they belong to windows, the number of the window."""
    if not electrodes:
        return samples.columns
    return {"window": np.arange(len(samples.tensors)) // electrodes, **samples.columns}


def _rows(samples: Samples, electrodes: int) -> list[SampleGroup]:
    """Rows of `samples.png`: one per window, one per class of a model with a single category, otherwise one."""
    tensors, columns = samples.tensors, samples.columns
    if electrodes:
        windows = tensors.split(electrodes)[:WINDOWS_SHOWN]
        rows = {f"window {number}": window for number, window in enumerate(windows)}
    elif len(columns) != 1 or next(iter(columns.values())).dtype.kind != "U":
        rows = {"samples": tensors[:MAX_AVERAGED]}
    else:
        [(name, values)] = columns.items()
        rows = {
            f"{name}: {value}": tensors[np.flatnonzero(values == value)[:MAX_AVERAGED]] for value in np.unique(values)
        }
    return [SampleGroup(title=name, samples=ExampleSet(tensors=each, card=samples.card)) for name, each in rows.items()]
