"""Figures of electrodes: maps of band power, and how electrodes are correlated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.evaluation.features import BANDS, Unavailable
from signal_diffusion.evaluation.page.picture import in_figure, sizes
from signal_diffusion.evaluation.report import Report
from signal_diffusion.figures.topomaps import COLOURS, FEWEST, draw_topomap, located

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["band_maps", "correlations"]

NAMED = 32
"""Names of electrodes at most beside a matrix."""
DIFFERENCES = "RdBu_r"
"""Colours of values around 0: blue, white, red."""


def band_maps(report: Report) -> tuple[Figure, str]:
    """Maps of the mean band power: real, synthetic, and their difference."""
    from matplotlib.figure import Figure

    windows = report.groups.real.windows
    if not len(located(windows.ch_names, windows.positions)):
        raise Unavailable(f"maps need the positions of at least {FEWEST} electrodes, not all on one circle")
    real, synthetic = (10 * features.band_power.mean(0) for features in (report.groups.real, report.groups.synthetic))
    rows = {"real": real, "synthetic": synthetic, "synthetic − real": synthetic - real}
    figure = Figure(figsize=(1.35 * len(BANDS) + 0.3, 4.9), layout="constrained")
    axes = figure.subplots(len(rows), len(BANDS), squeeze=False)
    for column, band in enumerate(BANDS):
        both = np.stack([real[:, column], synthetic[:, column]])
        most = float(np.abs(rows["synthetic − real"][:, column]).max()) or 1.0
        limits = {name: (float(both.min()), float(both.max())) for name in ("real", "synthetic")}
        limits["synthetic − real"] = (-most, most)
        for axis, (name, values) in zip(axes[:, column], rows.items(), strict=True):
            draw_topomap(
                axis,
                values[:, column],
                ch_names=windows.ch_names,
                positions=windows.positions,
                limits=limits[name],
                colours=DIFFERENCES if name == "synthetic − real" else COLOURS,
            )
        low, high = limits["real"]
        axes[0, column].set_title(f"{band}, {BANDS[band][0]}–{BANDS[band][1]} Hz\n{low:.1f} to {high:.1f} dB")
        axes[2, column].set_title(f"± {most:.1f} dB")
    for axis, name in zip(axes[:, 0], rows, strict=True):
        axis.set_ylabel(name)
    return figure, (
        "Band power over the head in dB re 1 µV², mean over windows; seen from above, the nose is at the top. Real and "
        "synthetic maps of a band have the same scale, from dark (the first number above them) to bright (the second). "
        f"In the differences, blue is less and red is more power in synthetic windows. {sizes(report.groups)}"
    )


def correlations(report: Report) -> tuple[Figure, str]:
    """Mean correlation matrices: real, synthetic, and their difference."""
    from matplotlib.figure import Figure

    names = report.groups.real.windows.ch_names
    if len(names) < 2:
        raise Unavailable("one electrode; at least two are needed")
    real, synthetic = (features.correlation.mean(0) for features in (report.groups.real, report.groups.synthetic))
    most = float(np.abs(synthetic - real).max()) or 1.0
    figure = Figure(figsize=(8.4, 3.1), layout="constrained")
    axes = figure.subplots(1, 3)
    matrices = {"real": (real, 1.0), "synthetic": (synthetic, 1.0), "synthetic − real": (synthetic - real, most)}
    for axis, (title, (matrix, limit)) in zip(axes, matrices.items(), strict=True):
        image = axis.imshow(matrix, vmin=-limit, vmax=limit, cmap=DIFFERENCES, interpolation="nearest")
        axis.set_title(title)
        named = range(0, len(names), -(-len(names) // NAMED))
        texts = [in_figure(names[index]) for index in named]
        axis.set_xticks(named, texts, rotation=90, fontsize=5)
        axis.set_yticks(named, texts if axis is axes[0] else [""] * len(texts), fontsize=5)
        if axis is not axes[0]:
            figure.colorbar(image, ax=axis, shrink=0.8)
    return figure, f"Correlation of the electrodes, mean over windows. {sizes(report.groups)}"
