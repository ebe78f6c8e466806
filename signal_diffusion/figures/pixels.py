"""Examples as the pixels that they are: alone, in a grid, and in an animation; no axes, no interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from signal_diffusion.data.representations.representation import Representation

__all__ = ["coloured", "draw_animation", "draw_grid", "grid"]

GAP = 2  # pixels between pictures, white
SMALLEST_EDGE = 96  # pixels of a picture in an animation, at least
WIDEST = 1000  # pixels of an animation, where there are several pictures to leave out
FRAME_MS = 100
LAST_FRAME_MS = 1500
BAR = 4  # pixels of the height of an animation's progress bar
BAR_COLOUR = (90, 90, 90)


def coloured(sample: Tensor, representation: Representation) -> np.ndarray:
    """What to show of an example (C, H, W), as (H, W, 3) uint8: EEG in magma, other pictures in their own colours."""
    from matplotlib import colormaps  # takes a while, and not every command draws

    picture = (representation.picture(sample).clamp(-1, 1) + 1) / 2
    if picture.ndim == 3 or representation.layout == "picture":
        return (picture * 255).round().byte().reshape(*picture.shape[:2], -1).expand(-1, -1, 3).numpy()
    return colormaps["magma"](picture.numpy(), bytes=True)[..., :3]


def grid(pictures: Sequence[np.ndarray], per_row: int) -> np.ndarray:
    """Pictures (H, W, 3) in reading order, `per_row` in a row and two white pixels between them."""
    height, width, _ = pictures[0].shape
    columns, rows = min(per_row, len(pictures)), -(-len(pictures) // per_row)
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = (index // per_row) * (height + GAP), (index % per_row) * (width + GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def draw_grid(path: Path, samples: Tensor, representation: Representation, *, per_row: int) -> None:
    """Write one PNG of all samples (N, C, H, W), `per_row` in a row, a pixel for each value."""
    Image.fromarray(grid([coloured(sample, representation) for sample in samples], per_row)).save(path)


def draw_animation(path: Path, frames: Sequence[tuple[Tensor, Tensor]], representation: Representation) -> None:
    """Write a GIF: of each frame two rows, `xt` above and `x0` below, (N, C, H, W) each, and how far it has come.

    Pictures are enlarged by whole factors, and as many of the first are shown as find room beside each other. The last
    frame stays a while; then it begins anew.
    """
    *_, height, width = frames[0][0].shape
    larger = [-(-SMALLEST_EDGE // edge) for edge in (height, width)]
    shown = max(1, WIDEST // (width * larger[1] + GAP))
    images = []
    for number, frame in enumerate(frames, start=1):
        pictures = [
            coloured(sample, representation).repeat(larger[0], axis=0).repeat(larger[1], axis=1)
            for sample in torch.cat([part[:shown] for part in frame])
        ]
        canvas = grid(pictures, len(pictures) // 2)
        bar = np.full((GAP + BAR, canvas.shape[1], 3), 255, np.uint8)
        bar[GAP:, : round(canvas.shape[1] * number / len(frames))] = BAR_COLOUR
        image = Image.fromarray(np.concatenate([canvas, bar]))
        images.append(image.quantize(256, dither=Image.Dither.NONE))
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_FRAME_MS]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, disposal=2)
