"""Windows of time series as traces in images: rows of them for grids and animations, or each in an image of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.figures.pixels import DPI, rendered
from signal_diffusion.figures.trace_rows import WIDTH, draw_window, window_in_words
from signal_diffusion.figures.traces import SECONDS, height_of_traces, spacing_of

__all__ = ["common_spacing", "window_images", "window_rows"]

MEASURED = 64  # windows, evenly spaced, that determine the scale
TOP, BOTTOM, EVENT, RIGHT = 0.2, 0.05, 0.3, 0.1  # margins, inches; EVENT: for numbers of seconds
INCHES_PER_LETTER, WIDEST_NAME = 0.055, 1.2
INCHES_PER_SECOND, WIDEST = 0.75, 12.0  # of an image with one whole window


def common_spacing(windows: np.ndarray) -> float:
    """The `spacing_of` windows (N, electrodes, samples) that are shown on one scale, µV."""
    return spacing_of(list(windows[evenly_spaced(len(windows), MEASURED)]))


def window_rows(rows: Sequence[np.ndarray], card: DatasetCard, *, spacing: float) -> np.ndarray:
    """Draw rows of windows (n, electrodes, samples) in µV as one image (H, W, 3), uint8; the last may be shorter.

    Each window is up to its first 4 s, which the image says at the top; each row has a scale bar.
    """
    columns, title = len(rows[0]), window_in_words(card)
    return np.concatenate(
        [
            _row(row, card, spacing=spacing, columns=columns, title="" if number else title)
            for number, row in enumerate(rows)
        ]
    )


def window_images(windows: np.ndarray, card: DatasetCard) -> Iterator[np.ndarray]:
    """Draw each window (electrodes, samples) of (N, electrodes, samples), µV, as an image (H, W, 3), uint8.

    Windows are shown from beginning to end, all on one scale.
    """
    assert card.window is not None and card.sampling_rate is not None
    seconds, spacing = card.window / card.sampling_rate, common_spacing(windows)
    width = min(max(INCHES_PER_SECOND * seconds, WIDTH), WIDEST)
    title = f"window of {seconds:.3g} s"
    for window in windows:
        yield _row(window[None], card, spacing=spacing, title=title, width=width, seconds=None)


def _row(
    windows: np.ndarray,
    card: DatasetCard,
    *,
    spacing: float,
    title: str,
    columns: int = 1,
    width: float = WIDTH,
    seconds: float | None = SECONDS,
) -> np.ndarray:
    from matplotlib.figure import Figure

    left = min(0.15 + INCHES_PER_LETTER * max(map(len, card.channels)), WIDEST_NAME)
    bottom = BOTTOM if card.tmin is None else EVENT
    height = height_of_traces(len(card.channels))
    size = left + columns * (width + RIGHT), bottom + height + TOP
    figure = Figure(figsize=size, dpi=DPI)
    for column, window in enumerate(windows):
        place = left + column * (width + RIGHT)
        axis = figure.add_axes((place / size[0], bottom / size[1], width / size[0], height / size[1]))
        last = column == len(windows) - 1
        draw_window(axis, window, card, spacing=spacing, names=column == 0, scale_bar=last, seconds=seconds)
        if column == 0:
            axis.set_title(title, fontsize=7, loc="left", pad=2)
    return rendered(figure)
