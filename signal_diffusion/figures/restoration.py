"""Figure of a restored recording: what was given, and what was restored with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.escaping import for_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Excerpt", "draw_restoration"]

WIDTH, HEIGHT = 8.0, 1.25  # of an axis, inches
COLOUR, SPLINE = "C0", "0.55"


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A part of a restored recording: µV (electrodes, samples), NaN where there is nothing to draw."""

    times: np.ndarray
    """Time of each sample, s."""
    ch_names: Sequence[str]
    given: np.ndarray
    mean: np.ndarray
    """Mean of the draws."""
    low: np.ndarray
    """Lower end of the 80 % interval of the draws."""
    high: np.ndarray
    """Its upper end."""
    spline: np.ndarray
    """Interpolation from other electrodes."""


def draw_restoration(path: Path, excerpts: Sequence[Excerpt], *, title: str) -> None:
    """Write a PNG: a row per electrode, a column per excerpt; given in black, restored in colour, splines in grey."""
    from matplotlib.figure import Figure

    rows = len(excerpts[0].ch_names)
    figure = Figure(figsize=(WIDTH * len(excerpts), HEIGHT * rows + 1.2), layout="constrained")
    axes = figure.subplots(rows, len(excerpts), squeeze=False, sharex="col", sharey=True)
    for column, excerpt in enumerate(excerpts):
        for row, name in enumerate(excerpt.ch_names):
            _draw(axes[row, column], excerpt, row)
            if column == 0:
                axes[row, column].set_ylabel(f"{for_figure(name)}\nµV", fontsize=8)
        axes[-1, column].set_xlabel("s")
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize=8, frameon=False
    )
    figure.suptitle(for_figure(title), fontsize=10)
    figure.savefig(path, dpi=100)


def _draw(axis: Axes, excerpt: Excerpt, row: int) -> None:
    """One electrode; what has no values is not in the legend."""
    times = excerpt.times
    if np.isfinite(excerpt.spline[row]).any():
        axis.plot(times, excerpt.spline[row], color=SPLINE, linewidth=0.9, label="spherical spline")
    if np.isfinite(excerpt.mean[row]).any():
        axis.fill_between(
            times,
            excerpt.low[row],
            excerpt.high[row],
            color=COLOUR,
            alpha=0.3,
            linewidth=0,
            label="80 % interval of the draws",
        )
        axis.plot(times, excerpt.mean[row], color=COLOUR, linewidth=1.0, label="restored: mean of the draws")
    if np.isfinite(excerpt.given[row]).any():
        axis.plot(times, excerpt.given[row], color="black", linewidth=0.8, label="given")
    axis.set_xlim(times[0], times[-1])
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
