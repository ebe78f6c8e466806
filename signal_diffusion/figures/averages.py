"""What sets of examples are like on average: curves of their mean spectra, and maps of their frequency bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.escaping import for_figure
from signal_diffusion.figures.groups import ExampleSet
from signal_diffusion.figures.topomaps import draw_topomaps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

__all__ = ["WIDTH", "draw_averages", "draw_band_maps", "draw_mean_spectra"]

WIDTH = 4.4
"""Width of a column with spectra and maps, inches."""
MAP, HIGHEST_SPECTRUM = 1.0, 3.0  # heights of a row of maps and of an axis with spectra, inches
STYLES = {"real": "--", "generated": "-", "original": "--", "reconstructed": "-"}


def draw_averages(figure: Figure, cell: SubplotSpec, sets: Mapping[str, ExampleSet], *, height: float) -> None:
    """Draw the mean spectra of sets of windows, and below them a row of maps for each, on the same scales.

    `height` is that of the cell in inches; what they do not need stays empty below them.
    """
    mapped = {name: examples for name, examples in sets.items() if examples.bands}
    maps = MAP * len(mapped)
    spectrum = min(max(height - maps, MAP), HIGHEST_SPECTRUM)
    heights = [spectrum, *[maps] * bool(mapped), max(height - maps - spectrum, 1e-3)]
    grid = cell.subgridspec(len(heights), 1, height_ratios=heights)
    draw_mean_spectra(figure.add_subplot(grid[0]), sets)
    if mapped:
        draw_band_maps(figure, grid[1], mapped)


def draw_mean_spectra(axis: Axes, sets: Mapping[str, ExampleSet], *, lowest: bool = True) -> None:
    """Draw the mean spectrum of each set, in Hz and dB re 1 µV; the x-axis is labelled if it is lowest.

    Windows shorter than 64 samples have none, and the axis stays empty.
    """
    for name, examples in sets.items():
        if examples.spectrum is not None:
            axis.plot(*examples.spectrum, STYLES[name], label=name, linewidth=1.2)
    axis.set_ylabel("dB re 1 µV", fontsize="small")
    axis.set_xlabel("Hz" if lowest else "", fontsize="small")
    axis.tick_params(labelsize="small")
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize="small")
    else:
        axis.set_axis_off()


def draw_band_maps(figure: Figure, cell: SubplotSpec, sets: Mapping[str, ExampleSet]) -> None:
    """Draw a row of maps of the levels of all bands for each set, which all have some (`ExampleSet.bands`)."""
    first, *_ = sets.values()
    axes = cell.subgridspec(len(sets), len(first.bands)).subplots(squeeze=False)
    draw_topomaps(
        axes,
        [np.stack(list(each.bands.values()), -1) for each in sets.values()],
        bands=list(first.bands),
        ch_names=first.card.channels,
        positions=first.card.positions,
    )
    for name, cells in zip(sets, axes, strict=True):
        cells[0].set_ylabel(for_figure(name), fontsize=7)
