"""Rows of images, pixel by pixel and without interpolation; spectrograms have axes in Hz and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.figures.images import ImageAxes, image_axes, label_electrodes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DPI", "GAP", "image_rows", "rendered"]

DPI = 100
GAP = 2
"""White pixels between images."""
LEFT, TOP, RIGHT, BOTTOM = 36, 8, 8, 30  # margins for the labels of axes, pixels
NAMES = 20  # more of the bottom, for names of electrodes
PIXELS_PER_TICK = 30


def image_rows(rows: Sequence[Tensor], card: DatasetCard, *, enlarged: tuple[int, int] = (1, 1)) -> np.ndarray:
    """Draw rows of examples (n, C, H, W) as one image (H, W, 3), uint8; the last row may be shorter.

    One pixel per value, or blocks of `enlarged` (height, width) pixels. Spectrograms are in magma, with frequencies to
    the left of each row and seconds below the last one; other pictures have their own colours and no axes.
    """
    representation = representation_of(card)
    images = [
        [_coloured(example, representation).repeat(enlarged[0], 0).repeat(enlarged[1], 1) for example in row]
        for row in rows
    ]
    canvas = _tiled(images)
    known = image_axes(card)
    return canvas if known is None else _with_axes(canvas, known, images[0][0].shape[:2])


def rendered(figure: Figure) -> np.ndarray:
    """The pixels of a figure (H, W, 3), uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _coloured(example: Tensor, representation: Representation) -> np.ndarray:
    """Render an example (C, H, W) as (H, W, 3) uint8: EEG in magma, other images in their own colours."""
    from matplotlib import colormaps  # slow to import, and not every command makes figures

    image = (representation.picture(example).clamp(-1, 1) + 1) / 2
    if image.ndim == 3 or representation.layout == "picture":
        return (image * 255).round().byte().reshape(*image.shape[:2], -1).expand(-1, -1, 3).numpy()
    return colormaps["magma"](image.numpy(), bytes=True)[..., :3]


def _tiled(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Put rows of images (H, W, 3) on white, with two pixels between them."""
    height, width, _ = rows[0][0].shape
    canvas = np.full((len(rows) * (height + GAP) - GAP, len(rows[0]) * (width + GAP) - GAP, 3), 255, np.uint8)
    for top, row in zip(range(0, len(canvas), height + GAP), rows, strict=True):
        for number, image in enumerate(row):
            canvas[top : top + height, number * (width + GAP) :][:, :width] = image
    return canvas


def _with_axes(canvas: np.ndarray, known: ImageAxes, size: tuple[int, int]) -> np.ndarray:
    """Put tiles of one size (height, width) into margins that number their rows and columns."""
    from matplotlib.figure import Figure

    height, width, _ = canvas.shape
    bottom = BOTTOM + NAMES * bool(known.electrodes)
    whole = height + TOP + bottom, width + LEFT + RIGHT
    figure = Figure(figsize=(whole[1] / DPI, whole[0] / DPI), dpi=DPI)
    axis = figure.add_axes((LEFT / whole[1], bottom / whole[0], width / whole[1], height / whole[0]))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.spines[:].set_visible(False)
    axis.tick_params(labelsize=6, length=2)
    _number_rows(axis, known, height=size[0], tops=range(0, height, size[0] + GAP))
    _number_columns(axis, known, width=size[1], lefts=range(0, width, size[1] + GAP))
    image = rendered(figure)
    image[TOP : TOP + height, LEFT : LEFT + width] = canvas  # as it is, instead of resampled by matplotlib
    return image


def _number_rows(axis: Axes, known: ImageAxes, *, height: int, tops: Sequence[int]) -> None:
    low, high = known.extent[2:]
    places = [np.log2(hertz) if known.logarithmic else hertz for hertz in known.hertz]
    ticks = [top + height * (high - place) / (high - low) for top in tops for place in places]
    axis.set_yticks(ticks, [f"{hertz:g}" for hertz in known.hertz] * len(tops))
    axis.set_ylabel("Hz", fontsize=7, loc="top")


def _number_columns(axis: Axes, known: ImageAxes, *, width: int, lefts: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    first, last = known.extent[:2]
    if known.electrodes:
        places, names = label_electrodes(known, width / DPI)
        axis.tick_params(axis="x", labelrotation=90)
        label = f"strips of {known.seconds:.3g} s"
    else:
        locator = MaxNLocator(max(1, width // PIXELS_PER_TICK), steps=[1, 2, 5, 10])
        places = np.asarray(locator.tick_values(first, last))
        places = places[(places >= first) & (places < last - (last - first) / 10)]  # next to it is another first one
        names = [f"{place:g}" for place in places]
        label = "s from the event" if known.event else "s"
    ticks = [left + width * (place - first) / (last - first) for left in lefts for place in places]
    axis.set_xticks(ticks, names * len(lefts))
    axis.set_xlabel(label, fontsize=7, x=-0.8 * LEFT / axis.get_xlim()[1], horizontalalignment="left")
