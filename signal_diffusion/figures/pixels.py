"""Examples as plain pixels: single images, grids and animations; no axes, no interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from signal_diffusion.data.representations.representation import Representation

__all__ = ["coloured", "draw_animation", "draw_grid", "grid"]

GAP = 2  # white pixels between images
SMALLEST_EDGE = 96  # least height and width of an image in an animation, pixels
WIDEST = 1000  # largest width of an animation with several images, pixels
FRAME_MS = 100
LAST_FRAME_MS = 1500
BAR = 4  # height of the progress bar of an animation, pixels
BAR_COLOUR = (90, 90, 90)


def coloured(sample: Tensor, representation: Representation) -> np.ndarray:
    """Render an example (C, H, W) as (H, W, 3) uint8: EEG in magma, other images in their own colours."""
    from matplotlib import colormaps  # slow to import, and not every command makes figures

    image = (representation.picture(sample).clamp(-1, 1) + 1) / 2
    if image.ndim == 3 or representation.layout == "picture":
        return (image * 255).round().byte().reshape(*image.shape[:2], -1).expand(-1, -1, 3).numpy()
    return colormaps["magma"](image.numpy(), bytes=True)[..., :3]


def grid(images: Sequence[np.ndarray], per_row: int) -> np.ndarray:
    """Tile images (H, W, 3) in reading order, `per_row` per row, with two white pixels between them."""
    height, width, _ = images[0].shape
    columns, rows = min(per_row, len(images)), -(-len(images) // per_row)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = (index // per_row) * (height + GAP), (index % per_row) * (width + GAP)
        canvas[top : top + height, left : left + width] = image
    return canvas


def draw_grid(path: Path, samples: Tensor, representation: Representation, *, per_row: int) -> None:
    """Write one PNG of all samples (N, C, H, W), `per_row` per row, one pixel per value."""
    Image.fromarray(grid([coloured(sample, representation) for sample in samples], per_row)).save(path)


def draw_animation(path: Path, frames: Sequence[tuple[Tensor, Tensor]], representation: Representation) -> None:
    """Write a looping GIF: per frame a row of `xt`, a row of `x0`, (N, C, H, W) each, and a progress bar.

    Images are enlarged by integer factors, and only as many of the first samples are shown as fit side by side. The
    last frame is shown longer.
    """
    *_, height, width = frames[0][0].shape
    larger = [-(-SMALLEST_EDGE // edge) for edge in (height, width)]
    shown = max(1, WIDEST // (width * larger[1] + GAP))
    gif = []
    for number, frame in enumerate(frames, start=1):
        images = [
            coloured(sample, representation).repeat(larger[0], axis=0).repeat(larger[1], axis=1)
            for sample in torch.cat([part[:shown] for part in frame])
        ]
        canvas = grid(images, len(images) // 2)
        bar = np.full((GAP + BAR, canvas.shape[1], 3), 255, np.uint8)
        bar[GAP:, : round(canvas.shape[1] * number / len(frames))] = BAR_COLOUR
        image = Image.fromarray(np.concatenate([canvas, bar]))
        gif.append(image.quantize(256, dither=Image.Dither.NONE))
    durations = [FRAME_MS] * (len(gif) - 1) + [LAST_FRAME_MS]
    gif[0].save(path, save_all=True, append_images=gif[1:], duration=durations, loop=0, disposal=2)
