"""Figures of samples: one row per label, next to real examples and with mean spectra.

Time series are drawn as traces (`trace_rows`), everything else as images.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.escaping import for_figure
from signal_diffusion.figures.averages import draw_mean_spectra
from signal_diffusion.figures.groups import SampleGroup
from signal_diffusion.figures.images import COLUMNS, draw_image, image_axes
from signal_diffusion.figures.trace_rows import trace_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_samples"]

IMAGE = 1.7
"""Inches between two images."""
DPI, MOST_DPI = 100, 300


def draw_samples(path: Path, rows: Sequence[SampleGroup], *, title: str) -> None:
    """Write a PNG with a row for each group, and the mean spectrum of its real and generated examples.

    Time series: windows as traces in µV, real ones next to generated ones, and maps of frequency bands. Images: the
    first samples, and the mean of all; low frequencies are at the bottom, colour images keep their colours.
    """
    traces = rows[0].samples.representation.layout == "window"
    figure = trace_figure(rows, title=title) if traces else _image_figure(rows, title)
    path.parent.mkdir(parents=True, exist_ok=True)
    edge = 0 if traces else max(rows[0].samples.tensors.shape[-2:])
    figure.savefig(path, dpi=min(max(DPI, 1.1 * edge / IMAGE), MOST_DPI))  # a pixel of an image is one of the figure


def _image_figure(rows: Sequence[SampleGroup], title: str) -> Figure:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(len(row.samples) for row in rows))
    has_spectra = any(each.spectrum is not None for row in rows for each in row.sets.values())
    ratios = [1.0] * (columns + 1) + [1.8] * has_spectra
    figure = Figure(figsize=(IMAGE * sum(ratios) + 0.6, 1.9 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(ratios), squeeze=False, width_ratios=ratios)
    known = image_axes(rows[0].samples.card)
    for number, (row, cells) in enumerate(zip(rows, axes, strict=True), start=1):
        tensors, representation = row.samples.tensors, row.samples.representation
        shown = [*tensors[:columns], *[None] * (columns - len(tensors)), tensors.mean(0)]
        for column, (axis, sample) in enumerate(zip(cells, shown, strict=False)):
            if sample is None:
                axis.set_axis_off()
                continue
            image = representation.picture(sample)
            draw_image(axis, image, known, leftmost=column == 0, lowest=number == len(rows))
        name = textwrap.fill(for_figure(textwrap.shorten(row.title, 90, placeholder=" …")), 26)
        cells[0].set_ylabel("\n".join(line for line in (name, cells[0].get_ylabel()) if line), fontsize="small")
        cells[columns].set_title(f"mean of {len(tensors)}", fontsize="small")
        if has_spectra:
            draw_mean_spectra(cells[-1], row.sets, lowest=number == len(rows))
    figure.suptitle(for_figure(title))
    return figure
