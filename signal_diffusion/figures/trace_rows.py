"""Rows of windows as traces: real ones next to generated ones, with their mean spectra and maps of frequency bands."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.escaping import for_figure
from signal_diffusion.figures import averages
from signal_diffusion.figures.groups import SampleGroup
from signal_diffusion.figures.traces import SECONDS, draw_traces, excerpt_in_words, height_of_traces, spacing_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["WIDTH", "WINDOWS", "draw_window", "trace_figure", "window_in_words"]

WINDOWS = 4
"""Windows per row."""
MAX_ROWS = 6
WIDTH = 2.8
"""Width of a window, inches."""


def trace_figure(rows: Sequence[SampleGroup], *, title: str) -> Figure:
    """Draw up to six groups: half of each row real and half generated windows, or four generated ones.

    All have one scale, that of the real windows in the figure, so that it is the same at each step of a run.
    """
    from matplotlib.figure import Figure

    card, shown = rows[0].samples.card, rows[:MAX_ROWS]
    windows = [_windows(row) for row in shown]
    real = [each["real"] for each in windows if "real" in each] or [each["generated"] for each in windows]
    spacing = spacing_of([window for windows in real for window in windows])
    columns = max(sum(map(len, each.values())) for each in windows)
    height = height_of_traces(len(card.channels))
    size = (WIDTH * columns + averages.WIDTH + 0.6, (height + 0.4) * len(shown) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(len(shown), columns + 1, width_ratios=[WIDTH] * columns + [averages.WIDTH])
    for number, (row, sets) in enumerate(zip(shown, windows, strict=True)):
        cells = [(name, window) for name, signals in sets.items() for window in signals]
        for column, (name, window) in enumerate(cells):
            axis = figure.add_subplot(grid[number, column])
            first, last = column == 0, column == len(cells) - 1
            draw_window(axis, window, card, spacing=spacing, names=first, scale_bar=last)
            axis.set_title(name, fontsize="small")
            if first:
                label = for_figure(textwrap.shorten(row.title, 90, placeholder=" …"))
                axis.set_ylabel(textwrap.fill(label, 26))
        averages.draw_averages(figure, grid[number, columns], row.sets, height=height)
    hidden = len(rows) - len(shown)
    more = f"; {hidden} more groups are not shown" if hidden else ""
    figure.suptitle(for_figure(f"{title}: {window_in_words(card)}{more}"))
    return figure


def draw_window(
    axis: Axes,
    window: np.ndarray,
    card: DatasetCard,
    *,
    spacing: float,
    names: bool,
    scale_bar: bool,
    seconds: float | None = SECONDS,
) -> None:
    """Draw a window of a dataset (electrodes, samples) in µV as traces; see `draw_traces`."""
    assert card.sampling_rate is not None
    draw_traces(
        axis,
        window,
        sfreq=card.sampling_rate,
        ch_names=card.channels,
        spacing=spacing,
        tmin=card.tmin,
        seconds=seconds,
        names=names,
        scale_bar=scale_bar,
    )


def window_in_words(card: DatasetCard) -> str:
    """What part of each window is drawn, such as "first 4 s of windows of 16.4 s"."""
    assert card.window is not None and card.sampling_rate is not None
    return excerpt_in_words(card.window, card.sampling_rate)


def _windows(row: SampleGroup) -> dict[str, np.ndarray]:
    """The windows of a group that are shown, µV (n, electrodes, samples); real ones are from all over the data."""
    share = WINDOWS // len(row.sets) if row.sets else 0
    found = {}
    for name, examples in row.sets.items():
        first = range(min(share, len(examples)))
        found[name] = examples.signals(evenly_spaced(len(examples), share) if name == "real" else first)
    return found
