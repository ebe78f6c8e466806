"""How one example of a dataset is drawn: traces, or an image per channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.spectrogram import Spectrogram
from signal_diffusion.figures.images import draw_image, image_axes
from signal_diffusion.figures.trace_rows import WIDTH, draw_window, window_in_words
from signal_diffusion.figures.traces import height_of_traces, spacing_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Panel", "panel_of"]

_COLOURS = {"I": "RdBu_r", "Q": "RdBu_r", "phase": "twilight"}  # of planes that are not levels


@dataclass(frozen=True, kw_only=True)
class Panel:
    """How one example is drawn."""

    channels: Sequence[str]
    """Name of each channel; they are drawn one below the other."""
    width: float
    height: float
    """Size of an axis, inches."""
    draw: Callable[[Axes, Tensor, int, bool, bool], None]
    """(axis, example (C, H, W), index of the channel, whether leftmost, whether lowest)."""
    remark: str = ""
    """For the title of the figure."""
    has_maps: bool = False
    """Whether there are maps of frequency bands."""


def panel_of(card: DatasetCard, examples: Sequence[Tensor]) -> Panel:
    """How the examples of a dataset are drawn; `examples` (C, H, W) are those shown together."""
    representation = representation_of(card)
    if representation.layout == "window":
        spacing = spacing_of([representation.to_signal(example).numpy() for example in examples])

        def draw_traces(axis: Axes, tensor: Tensor, channel: int, leftmost: bool, lowest: bool) -> None:
            window = representation.to_signal(tensor).numpy()
            draw_window(axis, window, card, spacing=spacing, names=leftmost, scale_bar=leftmost and lowest)

        return Panel(
            channels=[""],
            width=WIDTH,
            height=height_of_traces(len(card.channels)) + 0.3,
            draw=draw_traces,
            remark=f", {window_in_words(card)}",
            has_maps=True,
        )
    known = image_axes(card)
    if known is None or not isinstance(representation, Spectrogram):

        def draw_picture(axis: Axes, tensor: Tensor, channel: int, leftmost: bool, lowest: bool) -> None:
            draw_image(axis, representation.picture(tensor), None, leftmost=leftmost, lowest=lowest)

        return Panel(channels=[""], width=1.7, height=1.7, draw=draw_picture)

    planes = representation.planes

    def draw_spectrogram(axis: Axes, tensor: Tensor, channel: int, leftmost: bool, lowest: bool) -> None:
        colours = _COLOURS.get(planes[channel], "magma")
        draw_image(axis, tensor[channel], known, colours=colours, leftmost=leftmost, lowest=lowest)

    large = representation.layout == "mosaic"
    return Panel(
        channels=planes if len(planes) > 1 else [""],
        width=3.6 if large else 1.6,
        height=(3.2 if large else 1.6) * (1.0 if len(planes) == 1 else 0.8),
        draw=draw_spectrogram,
    )
