"""Figures of long recordings: traces across several borders of windows, and what the recordings are like on average."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.escaping import for_figure
from signal_diffusion.figures import averages
from signal_diffusion.figures.groups import ExampleSet
from signal_diffusion.figures.traces import draw_traces, height_of_traces, spacing_of

__all__ = ["draw_recordings", "windows_within"]

SHOWN = 2  # recordings
BORDERS = 3  # that are shown
INCHES_PER_SECOND, NARROWEST, WIDEST = 0.9, 5.0, 12.0


def windows_within(signals: np.ndarray, window: int, most: int) -> np.ndarray:
    """Up to `most` evenly spaced windows of recordings (N, electrodes, samples), (n, electrodes, window)."""
    each = signals.shape[-1] // window
    starts = [divmod(number, each) for number in evenly_spaced(len(signals) * each, most)]
    return np.stack([signals[row, :, place * window : (place + 1) * window] for row, place in starts])


def draw_recordings(
    path: Path,
    signals: np.ndarray,
    card: DatasetCard,
    *,
    borders: Sequence[int],
    notes: Sequence[Sequence[tuple[float, float, str]]],
    title: str,
    most: int = 1024,
) -> None:
    """Write a PNG of the beginning of recordings (N, electrodes, samples), µV, and of their mean spectrum and bands.

    Parameters
    ----------
    borders
        Samples at which a window continues the one before; dashed lines mark them.
    notes
        Onset and duration in s and text of the conditions of each recording, which are written above its traces.
    most
        Largest number of windows to average.
    """
    from matplotlib.figure import Figure

    assert card.window is not None and card.sampling_rate is not None
    sfreq, samples = card.sampling_rate, signals.shape[-1]
    end = borders[BORDERS] if len(borders) > BORDERS else samples
    seconds, height = end / sfreq, height_of_traces(len(card.channels))
    width, count = min(max(INCHES_PER_SECOND * seconds, NARROWEST), WIDEST), min(SHOWN, len(signals))
    size = (width + averages.WIDTH + 0.6, (height + 0.6) * count + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.add_gridspec(count, 2, width_ratios=[width, averages.WIDTH])
    spacing = spacing_of(list(signals[:count, :, :end]))
    for row in range(count):
        axis = figure.add_subplot(grid[row, 0])
        draw_traces(
            axis,
            signals[row, :, :end],
            sfreq=sfreq,
            ch_names=card.channels,
            spacing=spacing,
            seconds=None,
            scale_bar=row == count - 1,
        )
        for border in borders[:BORDERS]:
            axis.axvline(border / sfreq, color="C0", linestyle="--", linewidth=0.8)
        axis.set_title(f"recording {row}: first {seconds:.3g} s of {samples / sfreq:g} s", fontsize="small", pad=12)
        for onset, _, text in notes[row]:
            if onset < seconds:
                axis.text(onset, 1.0, for_figure(text), transform=axis.get_xaxis_transform(), fontsize=6, va="bottom")
    windows = torch.from_numpy(windows_within(signals, card.window, most))
    examples = ExampleSet(tensors=representation_of(card).to_tensor(windows), card=card)
    averages.draw_averages(figure, grid[0, 1], {"generated": examples}, height=height)
    figure.suptitle(for_figure(f"{title}: dashed lines are borders of windows"))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
