"""Pictures of samples: a row per class, and their mean spectrum beside that of real examples."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from signal_diffusion.data.representations.representation import Representation

__all__ = ["Row", "draw_samples"]

COLUMNS = 8


@dataclass(frozen=True, kw_only=True)
class Row:
    """Samples that are shown together."""

    title: str
    samples: Tensor
    """(N, C, H, W)."""
    real: Tensor | None = None
    """Real examples to compare with, (M, C, H, W)."""


def draw_samples(path: Path, rows: Sequence[Row], representation: Representation, *, title: str) -> None:
    """Write a PNG: per row its first samples, the mean of all of them, and, of EEG, their mean spectrum.

    Low frequencies are at the bottom. Pictures in colour are drawn in theirs.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(len(row.samples) for row in rows))
    spectra = [_spectra(row, representation) for row in rows]
    ratios = [1.0] * (columns + 1) + [1.8] * any(spectra)
    figure = Figure(figsize=(1.7 * sum(ratios) + 0.6, 1.9 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), len(ratios), squeeze=False, width_ratios=ratios)
    for row, cells, curves in zip(rows, axes, spectra, strict=True):
        pictures = cells[: columns + 1]
        shown = [*row.samples[:columns], *[None] * (columns - len(row.samples)), row.samples.mean(0)]
        for axis, sample in zip(pictures, shown, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            if sample is not None:
                _draw_picture(axis, sample, representation)
        pictures[0].set_ylabel(textwrap.fill(textwrap.shorten(row.title, 90, placeholder=" …"), 26))
        pictures[-1].set_title(f"mean of {len(row.samples)}", fontsize="small")
        if curves:
            _draw_spectra(cells[-1], curves)
    if any(spectra):
        axes[0, -1].legend(fontsize="small")
        axes[-1, -1].set_xlabel("Hz")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _spectra(row: Row, representation: Representation) -> dict[str, tuple[Tensor, Tensor]]:
    """Frequencies and levels of real and generated examples; empty where the representation has no spectrum."""
    groups = {"real": row.real, "generated": row.samples}
    found = {
        name: representation.mean_spectrum(tensors)
        for name, tensors in groups.items()
        if tensors is not None and len(tensors)
    }
    return {name: spectrum for name, spectrum in found.items() if spectrum is not None}


def _draw_picture(axis: Any, sample: Tensor, representation: Representation) -> None:
    plain = representation.layout == "picture"
    picture = representation.picture(sample)
    if picture.ndim == 3:
        picture = ((picture + 1) / 2).clamp(0, 1)
    axis.imshow(
        picture,
        vmin=-1,  # for what has one value per pixel
        vmax=1,
        cmap="gray" if plain else "magma",
        aspect="equal" if plain else "auto",
        interpolation="nearest",
    )


def _draw_spectra(axis: Any, curves: dict[str, tuple[Tensor, Tensor]]) -> None:
    styles = {"real": "--", "generated": "-"}
    for name, (frequencies, level) in curves.items():
        axis.plot(frequencies.numpy(), level.numpy(), styles[name], label=name, linewidth=1.2)
    axis.set_ylabel("dB re 1 µV")
    axis.grid(alpha=0.3)
