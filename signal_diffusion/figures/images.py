"""Examples that are images: spectrograms with axes in Hz and seconds, and pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.escaping import for_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLUMNS", "ImageAxes", "draw_image", "image_axes", "label_electrodes"]

COLUMNS = 8
"""Largest number of images per row of a figure."""
OCTAVES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
INCHES_PER_NAME = 0.09


@dataclass(frozen=True, kw_only=True)
class ImageAxes:
    """What the rows and columns of an image are. The units of the y-axis are Hz, or octaves above 1 Hz."""

    extent: tuple[float, float, float, float]
    """Left, right, bottom and top edge of the image."""
    logarithmic: bool
    """Whether rows are equally spaced in octaves."""
    electrodes: tuple[str, ...] = ()
    """Strips of a mosaic; the x-axis counts them. Otherwise empty, and the x-axis is in seconds."""
    seconds: float = 0.0
    """Length of a window."""
    event: bool = False
    """Whether windows were cut around events, which are at 0 s."""
    hertz: tuple[float, ...] = field(default=())
    """Frequencies that are numbered."""


def image_axes(card: DatasetCard) -> ImageAxes | None:
    """The axes of a dataset's spectrograms; None for other pictures, of which nothing is known."""
    from matplotlib.ticker import MaxNLocator

    representation = representation_of(card)
    found = representation.mean_spectrum(torch.zeros(1, *card.shape))
    if found is None or card.window is None or card.sampling_rate is None:
        return None
    hertz = found[0].double().numpy()
    logarithmic = hertz[0] > 0 and hertz[1] / hertz[0] < 2
    rows = np.log2(hertz) if logarithmic else hertz
    half, seconds = (rows[1] - rows[0]) / 2, card.window / card.sampling_rate
    ticks = OCTAVES if logarithmic else MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(0, hertz[-1])
    mosaic = representation.layout == "mosaic"
    start = 0.0 if mosaic else card.tmin or 0.0
    columns = card.shape[-1] / (card.shape[-1] // len(card.channels)) if mosaic else seconds
    return ImageAxes(
        extent=(start, start + columns, rows[0] - half, rows[-1] + half),
        logarithmic=bool(logarithmic),
        electrodes=tuple(card.channels) if mosaic else (),
        seconds=seconds,
        event=card.tmin is not None,
        hertz=tuple(float(tick) for tick in ticks if hertz[0] <= tick <= hertz[-1]),
    )


def draw_image(
    axis: Axes, image: Tensor, known: ImageAxes | None, *, colours: str = "magma", leftmost: bool, lowest: bool
) -> None:
    """Draw an image (H, W) in [-1, 1], or in colour (H, W, 3); only outer axes of a figure are labelled.

    Grey pictures are drawn in grey, and spectrograms with `colours`.
    """
    if image.ndim == 3:
        image = ((image + 1) / 2).clamp(0, 1)
    axis.imshow(
        image,
        vmin=-1,  # ignored for colour images
        vmax=1,
        cmap=colours if known else "gray",
        aspect="auto" if known else "equal",
        interpolation="nearest",
        extent=known.extent if known else None,
    )
    axis.set_xticks([])
    axis.set_yticks([])
    if known and leftmost:
        axis.set_yticks([np.log2(f) if known.logarithmic else f for f in known.hertz], [f"{f:g}" for f in known.hertz])
        axis.set_ylabel("Hz", fontsize=7)
    if known and lowest:
        _label_columns(axis, known)
    if known and known.event and not known.electrodes:
        axis.axvline(0, color="w", linestyle="--", linewidth=0.8, label="event")
    axis.tick_params(labelsize=6)


def label_electrodes(known: ImageAxes, width: float) -> tuple[np.ndarray, list[str]]:
    """Centres and names of the strips of a mosaic `width` inches wide; only every n-th if there is no room for all."""
    every = -(-len(known.electrodes) * INCHES_PER_NAME // width)
    shown = np.arange(0, len(known.electrodes), int(every))
    return shown + 0.5, [for_figure(known.electrodes[index]) for index in shown]


def _label_columns(axis: Axes, known: ImageAxes) -> None:
    from matplotlib.ticker import MaxNLocator

    if not known.electrodes:
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axis.set_xlabel("s from the event" if known.event else "s", fontsize=7)
        return
    figure = axis.get_figure()
    assert figure is not None
    width = axis.get_position().width * figure.get_figure(root=True).get_figwidth()
    axis.set_xticks(*label_electrodes(known, max(width, 1.0)), rotation=90)
    axis.set_xlabel(f"strips of {known.seconds:.3g} s", fontsize=7)
