"""Topographic maps: one value per electrode, interpolated over the head; usually the level of a frequency band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from signal_diffusion.data.bands import BANDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FEWEST", "band_levels", "draw_topomap", "draw_topomaps", "located"]

FEWEST = 8
"""Electrodes with a known position that a map needs: with fewer it would show little but interpolation."""
COLOURS = "viridis"
SEGMENT = 2.0  # s, of Welch's method
SILENCE = 1e-12  # µV²: −120 dB


def band_levels(signals: np.ndarray, sfreq: float) -> dict[str, np.ndarray]:
    """Mean level in each band by electrode, dB re 1 µV², (electrodes,), of windows (n, electrodes, samples) in µV.

    By Welch's method with Hann segments of 2 s, or of a whole window if it is shorter. Windows with values that are not
    finite are ignored, and bands without a frequency left out; there are none without windows. Electrodes that some
    windows lack, all NaN, are averaged over the others; there are no levels if no window has one.
    """
    from scipy import signal

    present = np.isfinite(signals).all(axis=2)  # (n, electrodes)
    rows = (present | np.isnan(signals).all(axis=2)).all(axis=1)
    if not present[rows].any(axis=0).all():
        return {}
    finite = signals[rows]
    segment = min(round(SEGMENT * sfreq), signals.shape[-1])
    frequencies, density = signal.welch(finite, sfreq, "hann", segment, segment // 2, detrend="constant")
    inside = {name: (frequencies >= low) & (frequencies < high) for name, (low, high) in BANDS.items()}
    power = {name: density[..., rows].sum(-1) * frequencies[1] for name, rows in inside.items() if rows.any()}
    return {name: np.nanmean(10 * np.log10(values + SILENCE), axis=0) for name, values in power.items()}


def located(ch_names: Sequence[str], positions: Mapping[str, Sequence[float]]) -> np.ndarray:
    """Indices of the electrodes that maps show, each position once; empty if there can be no map.

    There is none with fewer than `FEWEST` electrodes, or if they form a ring or a line, which surround no area of known
    values. `positions` are (x, y, z) on the unit sphere: x to the right ear, y to the nose, z up.
    """
    first: dict[tuple[float, ...], int] = {}
    for index, name in enumerate(ch_names):
        if name in positions:
            first.setdefault(tuple(np.round(positions[name], 3)), index)
    places = np.array(list(first)).reshape(-1, 3)
    flat = np.linalg.matrix_rank(places - places[:1], tol=0.05) < 3  # a circle on a sphere lies in a plane
    return np.array([] if flat or len(first) < FEWEST else list(first.values()), dtype=int)


def draw_topomaps(
    axes: np.ndarray,
    rows: Sequence[np.ndarray],
    *,
    bands: Sequence[str],
    ch_names: Sequence[str],
    positions: Mapping[str, Sequence[float]],
    unit: str = "dB",
) -> None:
    """Draw one map per band: `axes` is (rows, bands), and each of `rows` is (electrodes, bands).

    All rows of a band (such as real and generated) share one colour scale, from the least to the largest of their
    values, which its title says. The electrodes that `located` finds are drawn.
    """
    shown = located(ch_names, positions)
    for number, band in enumerate(bands):
        values = np.stack([row[shown, number] for row in rows])
        limits = (float(values.min()), float(values.max()))
        for axis, row in zip(axes[:, number], rows, strict=True):
            draw_topomap(axis, row[:, number], ch_names=ch_names, positions=positions, limits=limits)
        axes[0, number].set_title(f"{band}\n{limits[0]:.1f} to {limits[1]:.1f} {unit}", fontsize=6)


def draw_topomap(
    axis: Axes,
    values: np.ndarray,
    *,
    ch_names: Sequence[str],
    positions: Mapping[str, Sequence[float]],
    limits: tuple[float, float],
    colours: str = COLOURS,
) -> None:
    """Draw values (electrodes,) with MNE, which interpolates between electrodes; dark is `limits[0]`.

    The head's circle is the equator of the sphere; the projection keeps angles from the vertex (azimuthal equidistant).
    """
    from mne.viz import plot_topomap

    shown = located(ch_names, positions)
    x, y, z = np.array([positions[ch_names[index]] for index in shown], float).T
    radius = np.arctan2(np.hypot(x, y), z) / (np.pi / 2)
    angle = np.arctan2(y, x)
    plot_topomap(
        values[shown],
        np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1),
        axes=axis,
        vlim=limits,
        cmap=colours,
        sphere=(0.0, 0.0, 0.0, 1.0),
        contours=0,
        res=64,
        sensors=len(shown) < 40,
        show=False,
    )
