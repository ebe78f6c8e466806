"""Grids and animations of examples: time series as traces, everything else as images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.figures.pixels import DPI, GAP, image_rows
from signal_diffusion.figures.trace_images import common_spacing, window_rows
from signal_diffusion.figures.trace_rows import WIDTH

__all__ = ["draw_animation", "draw_grid"]

SMALLEST_EDGE = 96  # least height and width of an image in an animation, pixels
WIDEST = 1000  # largest width of an animation with several examples, pixels
MOST_TRACES = 64  # in a row of an animation: more would take minutes to draw, and tens of megabytes
FRAME_MS = 100
LAST_FRAME_MS = 1500
BAR = 4  # height of the progress bar of an animation, pixels
BAR_COLOUR = (90, 90, 90)


def draw_grid(path: Path, samples: Tensor, card: DatasetCard, *, per_row: int) -> None:
    """Write one PNG of all samples (N, C, H, W), `per_row` per row.

    Time series: the first 4 s of each window as traces, on one scale in µV. Images: one pixel per value.
    """
    representation = representation_of(card)
    if representation.layout == "window":
        signals = representation.to_signal(samples)
        rows = [row.numpy() for row in signals.split(per_row)]
        canvas = window_rows(rows, card, spacing=common_spacing(signals.numpy()))
    else:
        canvas = image_rows(samples.split(per_row), card)
    Image.fromarray(canvas).save(path)


def draw_animation(path: Path, frames: Sequence[tuple[Tensor, Tensor]], card: DatasetCard) -> None:
    """Write a looping GIF: per frame a row of `xt`, a row of `x0`, (N, C, H, W) each, and a progress bar.

    Only as many of the first samples are shown as fit side by side; images are enlarged by integer factors, and traces
    have the scale of the last frame, which is shown longer.
    """
    representation = representation_of(card)
    _, end = frames[-1]
    if representation.layout == "window":
        shown = max(1, min(int(WIDEST / (WIDTH * DPI)), MOST_TRACES // end.shape[-2]))
        spacing = common_spacing(representation.to_signal(end[:shown]).numpy())
        canvases = (
            window_rows([representation.to_signal(part[:shown]).numpy() for part in frame], card, spacing=spacing)
            for frame in frames
        )
    else:
        down, right = (-(-SMALLEST_EDGE // edge) for edge in end.shape[-2:])
        shown = max(1, WIDEST // (end.shape[-1] * right + GAP))
        canvases = (image_rows([part[:shown] for part in frame], card, enlarged=(down, right)) for frame in frames)
    gif = [_with_bar(canvas, number / len(frames)) for number, canvas in enumerate(canvases, start=1)]
    durations = [FRAME_MS] * (len(gif) - 1) + [LAST_FRAME_MS]
    gif[0].save(path, save_all=True, append_images=gif[1:], duration=durations, loop=0, disposal=2)


def _with_bar(canvas: np.ndarray, done: float) -> Image.Image:
    """A frame of a GIF: an image (H, W, 3) above a bar that shows which share of the frames is over."""
    bar = np.full((GAP + BAR, canvas.shape[1], 3), 255, np.uint8)
    bar[GAP:, : round(canvas.shape[1] * done)] = BAR_COLOUR
    return Image.fromarray(np.concatenate([canvas, bar])).quantize(256, dither=Image.Dither.NONE)
