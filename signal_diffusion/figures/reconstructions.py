"""Figure of an autoencoder's examples and their reconstructions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.escaping import for_figure
from signal_diffusion.figures import averages
from signal_diffusion.figures.groups import ExampleSet
from signal_diffusion.figures.images import COLUMNS, draw_image, image_axes
from signal_diffusion.figures.trace_rows import WIDTH, WINDOWS, draw_window, window_in_words
from signal_diffusion.figures.traces import SECONDS, height_of_traces, spacing_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpecFromSubplotSpec

__all__ = ["draw_reconstructions"]

SIGNAL = 1.7  # height of the axis with two signals, inches


def draw_reconstructions(path: Path, originals: ExampleSet, reconstructions: ExampleSet, *, title: str) -> None:
    """Write a PNG: examples above their reconstructions, both mean spectra, and the first signal of both.

    Time series are drawn as traces, on the scale of the originals, and with maps of frequency bands; other examples as
    images. The signal is that of the first electrode; representations without an exact inverse have none.
    """
    from matplotlib.figure import Figure

    card, sets = originals.card, {"original": originals, "reconstructed": reconstructions}
    traces, has_signal = originals.representation.layout == "window", originals.representation.inverse == "exact"
    columns = min(WINDOWS if traces else COLUMNS, len(originals))
    width, height = (WIDTH, height_of_traces(len(card.channels)) + 0.3) if traces else (1.7, 1.7)
    last = averages.WIDTH if traces else 3.7
    size = (width * columns + last, 2 * height + SIGNAL * has_signal + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    # Nested grids: in a single one, each column would be as far from the next as the widest label needs.
    rows = figure.add_gridspec(1 + has_signal, 1, height_ratios=[2 * height, *[SIGNAL] * has_signal])
    halves = rows[0].subgridspec(1, 2, width_ratios=[width * columns, last])
    grid = halves[0].subgridspec(2, columns)
    if traces:
        _draw_windows(figure, grid, sets, columns)
        title += f": {window_in_words(card)}"
        averages.draw_averages(figure, halves[1], sets, height=2 * height)
    else:
        _draw_images(figure, grid, sets, columns)
        if originals.spectrum is not None:
            averages.draw_mean_spectra(figure.add_subplot(halves[1]), sets)
    if has_signal:
        _draw_signals(figure.add_subplot(rows[1]), sets)
    figure.suptitle(for_figure(title))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _draw_windows(figure: Figure, grid: GridSpecFromSubplotSpec, sets: dict[str, ExampleSet], columns: int) -> None:
    windows = {name: examples.signals(range(columns)) for name, examples in sets.items()}
    spacing = spacing_of(list(windows["original"]))
    for row, (name, signals) in enumerate(windows.items()):
        for column, window in enumerate(signals):
            axis, first = figure.add_subplot(grid[row, column]), column == 0
            draw_window(axis, window, sets[name].card, spacing=spacing, names=first, scale_bar=column == columns - 1)
            axis.set_ylabel(name if first else "")


def _draw_images(figure: Figure, grid: GridSpecFromSubplotSpec, sets: dict[str, ExampleSet], columns: int) -> None:
    known = image_axes(sets["original"].card)
    for row, (name, examples) in enumerate(sets.items()):
        for column, example in enumerate(examples.tensors[:columns]):
            axis, first = figure.add_subplot(grid[row, column]), column == 0
            image = examples.representation.picture(example)
            draw_image(axis, image, known, leftmost=first, lowest=row == 1)
            if first:
                axis.set_ylabel("\n".join(word for word in (name, axis.get_ylabel()) if word))


def _draw_signals(axis: Axes, sets: dict[str, ExampleSet]) -> None:
    """Plot the signals of the first example and of its reconstruction in the same axes."""
    for (name, examples), width in zip(sets.items(), (1.2, 0.8), strict=True):
        signal, card = examples.signals([0])[0], examples.card
        assert card.sampling_rate is not None
        electrode = "" if signal.ndim == 1 else f"{for_figure(card.channels[0])}, "
        signal = np.atleast_2d(signal)[0]
        times = np.arange(len(signal)) / card.sampling_rate + (card.tmin or 0.0)
        axis.plot(times, signal, label=name, linewidth=width)
    axis.set_xlim(times[0], min(times[-1], times[0] + SECONDS))
    axis.set_xlabel("s from the event" if card.tmin is not None else "s")
    axis.set_ylabel(f"{electrode}µV")
    axis.legend(fontsize="small", loc="upper right")
    axis.grid(alpha=0.3)
