"""Figures of samples: one row per label, with their mean spectrum compared with that of real examples."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.escaping import for_figure

__all__ = ["COLUMNS", "SampleGroup", "draw_latents", "draw_reconstructions", "draw_samples"]

COLUMNS = 8
"""Largest number of examples per row."""
LATENT_ROWS = 4
LATENT_LIMIT = 3.0  # standard deviations at the ends of the colour scale


@dataclass(frozen=True, kw_only=True)
class SampleGroup:
    """One row of a figure: samples that are shown together."""

    title: str
    samples: Tensor
    """(N, C, H, W)."""
    real: Tensor | None = None
    """Real examples for comparison, (M, C, H, W)."""


def draw_samples(path: Path, rows: Sequence[SampleGroup], representation: Representation, *, title: str) -> None:
    """Write a PNG: for each row its first samples, the mean of all its samples and, for EEG, their mean spectrum.

    Low frequencies are at the bottom. Colour images keep their colours.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(len(row.samples) for row in rows))
    spectra = [_spectra(row, representation) for row in rows]
    ratios = [1.0] * (columns + 1) + [1.8] * any(spectra)
    figure = Figure(figsize=(1.7 * sum(ratios) + 0.6, 1.9 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(ratios), squeeze=False, width_ratios=ratios)
    for row, cells, curves in zip(rows, axes, spectra, strict=True):
        image_axes = cells[: columns + 1]
        shown = [*row.samples[:columns], *[None] * (columns - len(row.samples)), row.samples.mean(0)]
        for axis, sample in zip(image_axes, shown, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            if sample is not None:
                _draw_image(axis, sample, representation)
        name = for_figure(textwrap.shorten(row.title, 90, placeholder=" …"))
        image_axes[0].set_ylabel(textwrap.fill(name, 26))
        image_axes[-1].set_title(f"mean of {len(row.samples)}", fontsize="small")
        if curves:
            _draw_spectra(cells[-1], curves)
    if any(spectra):
        axes[0, -1].legend(fontsize="small")
        axes[-1, -1].set_xlabel("Hz")
    figure.suptitle(for_figure(title))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def draw_latents(path: Path, latents: Tensor, *, title: str) -> None:
    """Write a PNG of raw latents (N, c, h, w): one row for each of a few samples, one column per channel.

    The colour scale is -3 to 3. Above each column are mean and standard deviation over all N, which should be 0 and 1
    after training.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    _, channels, height, width = latents.shape
    chosen = latents[torch.linspace(0, len(latents) - 1, min(LATENT_ROWS, len(latents))).long()]
    gaps = max(1, width // 8), max(1, height // 8)
    # One image of all: separate axes would take seconds.
    mosaic = F.pad(chosen, (0, gaps[0], 0, gaps[1]), value=float("nan")).permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    mosaic = mosaic[: -gaps[1], : -gaps[0]]
    figure = Figure(figsize=(0.75 * channels + 1.4, 0.75 * len(chosen) + 1.0), layout="constrained")
    axis = figure.subplots()
    colours = colormaps["RdBu_r"].with_extremes(bad="0.6")  # gaps are grey, because white is a value
    shown = axis.imshow(
        mosaic, cmap=colours, vmin=-LATENT_LIMIT, vmax=LATENT_LIMIT, aspect="auto", interpolation="nearest"
    )
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


def draw_reconstructions(
    path: Path, originals: Tensor, reconstructions: Tensor, representation: Representation, *, title: str
) -> None:
    """Write a PNG: examples (N, C, H, W) above their reconstructions, both mean spectra, and the first signal of both.

    Spectra and signals are omitted if the representation has none. The signal is that of the first electrode.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(originals))
    has_signal = representation.inverse == "exact"
    figure = Figure(figsize=(1.7 * (columns + 2.4), 3.8 + 1.7 * has_signal), layout="constrained")
    grid = figure.add_gridspec(2 + has_signal, columns + 1, width_ratios=[1.0] * columns + [2.2])
    for row, (name, examples) in enumerate({"original": originals, "reconstructed": reconstructions}.items()):
        for column, example in enumerate(examples[:columns]):
            axis = figure.add_subplot(grid[row, column])
            axis.set_xticks([])
            axis.set_yticks([])
            _draw_image(axis, example, representation)
            if column == 0:
                axis.set_ylabel(name)
    spectra = {"original": originals, "reconstructed": reconstructions}
    curves = {name: representation.mean_spectrum(examples) for name, examples in spectra.items()}
    if found := {name: curve for name, curve in curves.items() if curve is not None}:
        axis = figure.add_subplot(grid[:2, -1])
        _draw_spectra(axis, found)
        axis.set_xlabel("Hz")
        axis.legend(fontsize="small")
    if has_signal:
        _draw_signals(figure.add_subplot(grid[2, :]), originals[0], reconstructions[0], representation)
    figure.suptitle(for_figure(title))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _spectra(row: SampleGroup, representation: Representation) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean spectra of real and generated examples; empty if the representation has no spectrum."""
    groups = {"real": row.real, "generated": row.samples}
    found = {
        name: representation.mean_spectrum(tensors)
        for name, tensors in groups.items()
        if tensors is not None and len(tensors)
    }
    return {name: spectrum for name, spectrum in found.items() if spectrum is not None}


def _draw_image(axis: Any, sample: Tensor, representation: Representation) -> None:
    plain = representation.layout == "picture"
    image = representation.picture(sample)
    if image.ndim == 3:
        image = ((image + 1) / 2).clamp(0, 1)
    axis.imshow(
        image,
        vmin=-1,  # ignored for colour images
        vmax=1,
        cmap="gray" if plain else "magma",
        aspect="equal" if plain else "auto",
        interpolation="nearest",
    )


def _draw_spectra(axis: Any, curves: dict[str, tuple[Tensor, Tensor]]) -> None:
    styles = {"real": "--", "generated": "-", "original": "--", "reconstructed": "-"}
    for name, (frequencies, level) in curves.items():
        axis.plot(frequencies.numpy(), level.numpy(), styles[name], label=name, linewidth=1.2)
    axis.set_ylabel("dB re 1 µV")
    axis.grid(alpha=0.3)


def _draw_signals(axis: Any, original: Tensor, reconstruction: Tensor, representation: Representation) -> None:
    """Plot the signals of two examples (C, H, W) in the same axes."""
    for name, example, width in (("original", original, 1.2), ("reconstructed", reconstruction, 0.8)):
        signal = representation.to_signal(example)
        axis.plot((signal[0] if signal.ndim > 1 else signal).numpy(), label=name, linewidth=width)
    axis.margins(x=0)
    axis.set_xlabel("samples")
    axis.set_ylabel("µV")
    axis.legend(fontsize="small", loc="upper right")
    axis.grid(alpha=0.3)
