"""Figure of spectrograms as they are stored, which may have faults that their signals do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from signal_diffusion.evaluation.page.examples import example_pairs
from signal_diffusion.evaluation.page.picture import KINDS, in_figure
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.stored_spectrograms import Spectrograms
from signal_diffusion.evaluation.text import number
from signal_diffusion.figures.dataset_panels import panel_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["stored_spectrograms"]

SHOWN = 3


def stored_spectrograms(report: Report, stored: Spectrograms, electrode: str) -> tuple[Figure, str]:
    """Stored spectrograms of single windows, real above synthetic, with all planes; of one electrode, or mosaics."""
    from matplotlib.figure import Figure

    pairs, panel = example_pairs(report.groups, SHOWN), panel_of(stored.card, [])
    representation, rows = stored.representation, len(KINDS) * len(panel.channels)
    shown = report.groups.real.ch_names.index(electrode) if representation.per_electrode else 0
    size = 1.2 * panel.width * len(pairs) + 0.6, panel.height * rows + 0.6
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, len(pairs), squeeze=False)
    for column, pair in enumerate(pairs):
        axes[0, column].set_title(in_figure(pair.title))
        for place, (kind, windows) in enumerate(pair.windows.items()):
            assert windows.spectrograms is not None
            example = windows.spectrograms.read(0, 1)[shown]
            for plane, name in enumerate(panel.channels):
                axis = axes[plane * len(KINDS) + place, column]
                panel.draw(axis, example, plane, column == 0, axis is axes[-1, column])
                if column == 0:
                    axis.set_ylabel("\n".join(filter(None, (kind, name, "Hz"))))
    what = f"of electrode {electrode}" if representation.per_electrode else "with a strip for each electrode"
    return figure, (
        f"Spectrograms as they are stored, {what}, of {len(pairs)} real windows above {len(pairs)} synthetic ones, on "
        f"the same scale: decibels from {number(representation.db_min, 4)} (dark) to "
        f"{number(representation.db_max, 4)} dB re 1 µV (bright). Windows are evenly spaced over each set, not chosen."
    )
