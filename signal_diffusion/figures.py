"""Pictures of samples: rows of spectrograms, and their mean spectrum beside that of real examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from signal_diffusion.data.representation import Representation

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
    """Write a PNG: per row its first samples, the mean of all of them, and their mean spectrum.

    Low frequencies are at the bottom.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(len(row.samples) for row in rows))
    figure = Figure(figsize=(1.7 * columns + 5.4, 1.9 * len(rows) + 0.6), layout="constrained")
    axes = figure.subplots(len(rows), columns + 2, squeeze=False, width_ratios=[1.0] * (columns + 1) + [1.8])
    for row, (*pictures, spectrum) in zip(rows, axes, strict=True):
        for axis in pictures:
            axis.set_xticks([])
            axis.set_yticks([])
        shown = [*row.samples[:columns], *[None] * (columns - len(row.samples)), row.samples.mean(0)]
        for axis, sample in zip(pictures, shown, strict=True):
            if sample is not None:
                axis.imshow(
                    representation.picture(sample),
                    vmin=-1,
                    vmax=1,
                    cmap="magma",
                    aspect="auto",
                    interpolation="nearest",
                )
        pictures[0].set_ylabel(row.title)
        pictures[-1].set_title(f"mean of {len(row.samples)}", fontsize="small")
        for name, tensors, style in (("real", row.real, "--"), ("generated", row.samples, "-")):
            if tensors is not None and len(tensors):
                found = representation.mean_spectrum(tensors)
                assert found is not None
                frequencies, level = found
                spectrum.plot(frequencies.numpy(), level.numpy(), style, label=name, linewidth=1.2)
        spectrum.set_ylabel("dB re 1 µV")
        spectrum.grid(alpha=0.3)
    axes[0, -1].legend(fontsize="small")
    axes[-1, -1].set_xlabel("Hz")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
