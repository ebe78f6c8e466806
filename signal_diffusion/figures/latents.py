"""Figure of latents by channel."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.escaping import for_figure

__all__ = ["draw_latents"]

ROWS = 4
LIMIT = 3.0  # standard deviations at the ends of the colour scale


def draw_latents(path: Path, latents: Tensor, *, title: str) -> None:
    """Write a PNG of raw latents (N, c, h, w): one row for each of a few samples, one column per channel.

    The colour scale is -3 to 3. Above each column are mean and standard deviation over all N, which should be 0 and 1
    after training.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    _, channels, height, width = latents.shape
    chosen = latents[torch.linspace(0, len(latents) - 1, min(ROWS, len(latents))).long()]
    gaps = max(1, width // 8), max(1, height // 8)
    # One image of all: separate axes would take seconds.
    mosaic = F.pad(chosen, (0, gaps[0], 0, gaps[1]), value=float("nan")).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    mosaic = mosaic[: -gaps[1], : -gaps[0]]
    figure = Figure(figsize=(0.75 * channels + 1.4, 0.75 * len(chosen) + 1.0), layout="constrained")
    axis = figure.subplots()
    colours = colormaps["RdBu_r"].with_extremes(bad="0.6")  # gaps are grey, because white is a value
    shown = axis.imshow(mosaic, cmap=colours, vmin=-LIMIT, vmax=LIMIT, aspect="auto", interpolation="nearest")
    means, stds = latents.mean((0, 2, 3)).tolist(), latents.std((0, 2, 3)).tolist()
    labels = [f"{index}\n{mean:.2f}\n±{std:.2f}" for index, (mean, std) in enumerate(zip(means, stds, strict=True))]
    centres = [(width - 1) / 2 + index * (width + gaps[0]) for index in range(channels)]
    axis.set_xticks(centres, labels, fontsize="x-small")
    axis.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    axis.set_yticks([])
    axis.set_frame_on(False)
    figure.colorbar(shown, fraction=0.02, pad=0.01)
    figure.suptitle(f"{for_figure(title)}: latents by channel, mean ± standard deviation", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
