"""Figures of spectra: their spread over windows, and spectrograms of single windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import signal

from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.page.examples import example_pairs
from signal_diffusion.evaluation.page.images import stored_spectrograms
from signal_diffusion.evaluation.page.picture import KINDS, by_label, in_figure, left_out, sizes
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.figures.dataset_examples import PREFERRED
from signal_diffusion.figures.dataset_spectra import POSTERIOR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["spectrograms", "spectrum"]

SHOWN = (1.0, 45.0)
"""Frequencies of the figures, Hz."""
SPECTROGRAMS = 3
SEGMENT, HOP = 1.0, 0.1  # of spectrograms, s
SMALLEST = 1e-4
"""µV²/Hz, added to powers before their logarithm."""


def spectrum(report: Report) -> tuple[Figure, str]:
    """Median and quartiles over windows of the spectrum, by label and region."""
    from matplotlib.figure import Figure

    sets, regions = by_label(report.groups), _regions(report.groups.real.windows)
    figure = Figure(figsize=(3.6 * len(regions), 2.4 * len(sets) + 0.4), layout="constrained")
    axes = figure.subplots(len(sets), len(regions), squeeze=False, sharex=True, sharey=True)
    for row, (label, kinds) in zip(axes, sets.items(), strict=True):
        for axis, (region, electrodes) in zip(row, regions.items(), strict=True):
            for kind, features in kinds.items():
                _draw_quartiles(axis, features, electrodes, kind)
            counts = ", ".join(f"{len(features)} {kind}" for kind, features in kinds.items())
            axis.set_title(": ".join(word for word in (in_figure(label), region) if word) + f"\n{counts} windows")
            axis.grid(alpha=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("Hz")
    for axis in axes[:, 0]:
        axis.set_ylabel("dB re 1 µV²/Hz")
    axes[0, 0].legend()
    return figure, (
        "Power spectral density (Welch, segments of 2 s) of each window, mean over the electrodes. Lines are the "
        f"medians over windows, areas reach from the first to the third quartile. {sizes(report.groups)}"
        f"{left_out(report.groups)}"
    )


def spectrograms(report: Report) -> tuple[Figure, str]:
    """Spectrograms of single windows, real above synthetic: as they are stored, or of the signals."""
    from matplotlib.figure import Figure

    windows = report.groups.real.windows
    electrode = next((name for name in PREFERRED if name in windows.ch_names), windows.ch_names[0])
    if windows.spectrograms is not None and report.groups.synthetic.windows.spectrograms is not None:
        return stored_spectrograms(report, windows.spectrograms, electrode)
    if windows.seconds < 2 * SEGMENT:
        raise Unavailable(f"windows of {windows.seconds:g} s; at least {2 * SEGMENT:g} s are needed")
    pairs = example_pairs(report.groups, SPECTROGRAMS)
    levels = [[_levels(each, electrode) for each in pair.windows.values()] for pair in pairs]
    low, high = np.quantile(np.concatenate([each[2].ravel() for both in levels for each in both]), [0.02, 0.995])
    figure = Figure(figsize=(2.5 * len(pairs) + 0.8, 4.2), layout="constrained")
    axes = figure.subplots(2, len(pairs), squeeze=False, sharex=True, sharey=True)
    for column, pair, both in zip(axes.T, pairs, levels, strict=True):
        for axis, (times, frequencies, level) in zip(column, both, strict=True):
            image = axis.pcolormesh(
                times, frequencies, level, vmin=low, vmax=high, cmap="magma", rasterized=True, shading="nearest"
            )
        column[0].set_title(in_figure(pair.title))
        column[1].set_xlabel("s")
    for axis, kind in zip(axes[:, 0], KINDS, strict=True):
        axis.set_ylabel(f"{kind}\nHz")
    figure.colorbar(image, ax=axes, label="dB re 1 µV²/Hz")
    return figure, (
        f"Spectrograms of electrode {electrode} (segments of {SEGMENT:g} s) of {len(pairs)} real windows above "
        f"{len(pairs)} synthetic ones, on the same scale. Windows are evenly spaced over each set, not chosen."
    )


def _regions(windows: Windows) -> dict[str, np.ndarray]:
    """Region → indices of its electrodes."""
    posterior = [name for name in windows.ch_names if name in POSTERIOR]
    regions = {"all electrodes": list(windows.ch_names), f"posterior ({', '.join(posterior)})": posterior}
    return {region: np.flatnonzero(np.isin(windows.ch_names, names)) for region, names in regions.items() if names}


def _draw_quartiles(axis: Axes, features: Features, electrodes: np.ndarray, kind: str) -> None:
    frequencies = features.frequencies
    shown = (frequencies >= SHOWN[0]) & (frequencies <= SHOWN[1])
    levels = 10 * np.log10(features.spectrum[:, electrodes][..., shown].mean(1) + SMALLEST)  # (N, F)
    first, median, third = np.quantile(levels, [0.25, 0.5, 0.75], axis=0)
    style = KINDS[kind]
    axis.plot(frequencies[shown], median, style.line, color=style.colour, linewidth=1.4, label=kind)
    axis.fill_between(frequencies[shown], first, third, color=style.colour, alpha=0.25, linewidth=0)


def _levels(windows: Windows, electrode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seconds, Hz and dB re 1 µV²/Hz (F, T) of one window."""
    samples, hop = round(SEGMENT * windows.sfreq), max(1, round(HOP * windows.sfreq))
    frequencies, times, power = signal.spectrogram(
        windows.signals[0, windows.ch_names.index(electrode)],
        windows.sfreq,
        "hann",
        samples,
        samples - hop,
    )
    shown = frequencies <= SHOWN[1]
    return times + (windows.tmin or 0.0), frequencies[shown], 10 * np.log10(power[shown] + SMALLEST)
