"""Figures of how signals change over time: envelopes of rhythms, and responses to events."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.evaluation.features import BANDS, Unavailable
from signal_diffusion.evaluation.page.picture import KINDS, by_label, in_figure, left_out, sizes
from signal_diffusion.evaluation.per_window import ENVELOPE_BANDS
from signal_diffusion.evaluation.report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["envelopes", "evoked"]

GAUSSIAN = 0.523
"""Standard deviation ÷ mean of the envelope of a Gaussian process (a Rayleigh distribution): √(4 / π − 1)."""
MIDLINE = ("Fz", "Cz", "Pz", "Oz")


def envelopes(report: Report) -> tuple[Figure, str]:
    """Distributions of how much envelopes vary within a window."""
    from matplotlib.figure import Figure

    sets = {"real": report.groups.real, "synthetic": report.groups.synthetic}
    values = {kind: features.envelope_variation for kind, features in sets.items()}
    figure = Figure(figsize=(7.6, 2.6), layout="constrained")
    axes = figure.subplots(1, len(ENVELOPE_BANDS), sharex=True)
    low, high = np.quantile(np.concatenate([each.ravel() for each in values.values()]), [0.001, 0.999])
    edges = np.linspace(low, max(high, low + 1e-3), 60)
    for number, (axis, band) in enumerate(zip(axes, ENVELOPE_BANDS, strict=True)):
        for kind, each in values.items():
            style = KINDS[kind]
            heights = np.histogram(each[..., number], edges)[0] / each[..., number].size * 100
            axis.stairs(heights, edges, color=style.colour, linestyle=style.line, linewidth=1.3, label=kind)
        axis.axvline(GAUSSIAN, color="0.4", linestyle=":", linewidth=1, label="Gaussian noise")
        axis.set_title(f"{band}, {BANDS[band][0]}–{BANDS[band][1]} Hz")
        axis.set_xlabel("standard deviation ÷ mean")
    axes[0].set_ylabel("% of windows and electrodes")
    axes[0].legend()
    return figure, (
        "How much rhythms wax and wane: standard deviation ÷ mean of the envelope of each window and electrode. The "
        f"dotted line is what Gaussian noise with any spectrum has on average. {sizes(report.groups)}"
    )


def evoked(report: Report) -> tuple[Figure, str]:
    """Mean responses to events, by label and electrode."""
    from matplotlib.figure import Figure

    windows = report.groups.real.windows
    if windows.tmin is None:
        raise Unavailable("the windows are not cut around events")
    electrodes = [name for name in MIDLINE if name in windows.ch_names] or list(windows.ch_names[:4])
    sets = by_label(report.groups)
    times = windows.tmin + np.arange(windows.signals.shape[-1]) / windows.sfreq
    figure = Figure(figsize=(2.2 * len(electrodes) + 0.8, 1.9 * len(sets) + 0.5), layout="constrained")
    axes = figure.subplots(len(sets), len(electrodes), squeeze=False, sharex=True, sharey=True)
    for row, (label, kinds) in zip(axes, sets.items(), strict=True):
        for axis, electrode in zip(row, electrodes, strict=True):
            for kind, features in kinds.items():
                values = features.windows.signals[:, windows.ch_names.index(electrode)]
                mean, error = values.mean(0), 2 * values.std(0) / np.sqrt(len(values))
                style = KINDS[kind]
                axis.plot(times, mean, style.line, color=style.colour, linewidth=1.2, label=kind)
                axis.fill_between(times, mean - error, mean + error, color=style.colour, alpha=0.25, linewidth=0)
            axis.axvline(0, color="0.4", linewidth=0.8, linestyle=":")
            axis.grid(alpha=0.3)
            axis.set_title(in_figure(electrode))
        counts = ", ".join(f"{len(features)} {kind}" for kind, features in kinds.items())
        row[0].set_ylabel(in_figure(label) + f"\n({counts})\nµV")
    for axis in axes[-1]:
        axis.set_xlabel("s from the event")
    axes[0, 0].legend()
    return figure, (
        "Mean over windows in µV, ± 2 standard errors (areas); the event is at 0 s. No baseline is subtracted. "
        f"{sizes(report.groups)}{left_out(report.groups)}"
    )
