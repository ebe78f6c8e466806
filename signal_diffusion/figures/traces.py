"""Windows of EEG as traces: one below the other by electrode, with a scale bar in microvolts and seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.escaping import for_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SECONDS", "draw_traces", "excerpt_in_words", "height_of_traces", "spacing_of"]

SECONDS = 4.0
"""Length of a window that is shown by default, s: longer windows would be too dense to read."""
PERCENTILE = 99.0  # of the absolute values of an electrode: neighbouring traces seldom touch
INCHES_PER_TRACE, LOWEST, HIGHEST = 0.15, 1.8, 7.0  # height of an axis
INCHES_PER_NAME = 0.1
BAR_HEIGHT, BAR_WIDTH = 0.07, 0.25  # shares of the axis that the scale bar may fill
MANY = 40  # electrodes, from which lines are thinner


def spacing_of(windows: Sequence[np.ndarray]) -> float:
    """Distance between neighbouring traces for windows (electrodes, samples) that are shown together, µV.

    The median over all electrodes and windows of the 99th percentile of |x − median(x)|, so that a few artefacts or
    noisy electrodes do not flatten all others. Values that are not finite are ignored; 1 if everything is flat.
    """
    amplitudes = [_amplitude(trace[np.isfinite(trace)]) for window in windows for trace in window]
    found = [amplitude for amplitude in amplitudes if amplitude > 0]
    return float(np.median(found)) if found else 1.0


def height_of_traces(electrodes: int) -> float:
    """Height of an axis that shows so many traces, inches."""
    return min(max(INCHES_PER_TRACE * electrodes + 0.3, LOWEST), HIGHEST)


def excerpt_in_words(samples: int, sfreq: float, seconds: float | None = SECONDS) -> str:
    """What part of a window is shown, such as "first 4 s of windows of 16.4 s", or "windows of 2 s"."""
    windows = f"windows of {samples / sfreq:.3g} s"
    return windows if seconds is None or samples / sfreq <= seconds else f"first {seconds:g} s of {windows}"


def draw_traces(
    axis: Axes,
    signals: np.ndarray,
    *,
    sfreq: float,
    ch_names: Sequence[str],
    spacing: float,
    tmin: float | None = None,
    seconds: float | None = SECONDS,
    names: bool = True,
    scale_bar: bool = True,
    colour: str = "0.15",
) -> None:
    """Draw a window (electrodes, samples) in µV, the first electrode at the top.

    The data units of the axis are seconds and microvolts, so axes with the same `spacing` have the same scale. Each
    trace is drawn without its median: offsets are not EEG. Values that are not finite leave gaps, and are counted,
    except on electrodes that the window lacks, which are all NaN.

    Parameters
    ----------
    sfreq
        Sampling rate, Hz.
    spacing
        Distance between neighbouring traces, µV; see `spacing_of`.
    tmin
        Time of the first sample relative to the event, s: marks the event at 0 and numbers the time axis.
    seconds
        Length that is shown, from the first sample; None = all.
    names
        Whether to write the names of the electrodes; only every n-th of many.
    scale_bar
        Whether to draw the scale bar, in the lower right corner.
    """
    shown = signals if seconds is None else signals[:, : max(2, round(seconds * sfreq))]
    electrodes, samples = shown.shape
    offsets = -spacing * np.arange(electrodes)
    times = np.arange(samples) / sfreq + (tmin or 0.0)
    finite = np.isfinite(shown)
    values = np.stack([trace - _median(trace[known]) for trace, known in zip(shown, finite, strict=True)])
    axis.plot(times, (values + offsets[:, None]).T, color=colour, linewidth=0.5 if electrodes < MANY else 0.3)
    axis.set_xlim(times[0], times[0] + samples / sfreq)
    room = max(3 * spacing, -1.2 * BAR_HEIGHT * offsets[-1])  # for the scale bar
    axis.set_ylim(offsets[-1] - room, 2 * spacing)
    axis.spines[:].set_visible(False)
    _name_electrodes(axis, ch_names if names else (), offsets)
    if tmin is None:
        axis.set_xticks([])
    else:
        axis.tick_params(axis="x", labelsize=6)
        axis.set_xlabel("s from the event", fontsize=6)
        if times[0] <= 0 <= times[-1]:
            axis.axvline(0, color="C3", linestyle="--", linewidth=0.8, label="event")
    if scale_bar:
        _draw_scale_bar(axis)
    present = ~np.isnan(shown).all(axis=1)
    if present.any():
        for offset in offsets[~present]:
            axis.text(times[0], offset, "absent", va="center", fontsize=5, color="0.6")
        finite = finite[present]
    if not finite.all():
        words = f"{100 * (1 - finite.mean()):.3g} % of the values are not finite"
        axis.text(0.5, 0.99, words, transform=axis.transAxes, ha="center", va="top", fontsize=6, color="C3")


def _amplitude(trace: np.ndarray) -> float:
    return float(np.percentile(np.abs(trace - _median(trace)), PERCENTILE)) if len(trace) else 0.0


def _median(trace: np.ndarray) -> float:
    return float(np.median(trace)) if len(trace) else 0.0


def _name_electrodes(axis: Axes, names: Sequence[str], offsets: np.ndarray) -> None:
    axis.tick_params(axis="y", length=0, labelsize=6)
    every = math.ceil(len(offsets) * INCHES_PER_NAME / height_of_traces(len(offsets)))
    axis.set_yticks(offsets[::every] if names else [], [for_figure(name) for name in names[::every]])


def _draw_scale_bar(axis: Axes) -> None:
    """An L of round lengths in the lower right corner: upwards µV, to the left s."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    microvolts, seconds = _round_down(BAR_HEIGHT * (top - bottom)), _round_down(BAR_WIDTH * (right - left))
    base = bottom + 0.01 * (top - bottom)
    axis.plot([right, right], [base, base + microvolts], color="C3", linewidth=1.5, clip_on=False, label="µV")
    axis.plot([right - seconds, right], [base, base], color="C3", linewidth=1.5, clip_on=False, label="s")
    text = f"{microvolts:g} µV, {seconds:g} s "
    axis.text(right - seconds, base, text, ha="right", va="bottom", fontsize=6, color="C3", clip_on=False)


def _round_down(number: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not larger."""
    power = 10.0 ** math.floor(math.log10(number))
    return float(f"{max(digit for digit in (1, 2, 5) if digit * power <= number * (1 + 1e-9)) * power:.1g}")
