"""Baselines for missing electrodes: MNE's spherical splines, and ridge regression from the given electrodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from signal_diffusion.data.recordings.positions import head_positions
from signal_diffusion.evaluation.restoration.scenarios import referenced

__all__ = ["ridge", "splines"]

ALPHAS = tuple(10.0**power for power in range(-6, 2))
"""Candidates for the penalty of the ridge regression, as multiples of the mean eigenvalue of XᵀX."""
MOST_SAMPLES = 200_000
"""Time points that a regression is fitted to, spread evenly."""


def splines(
    signals: np.ndarray, missing: np.ndarray, ch_names: Sequence[str], positions: Mapping[str, Sequence[float]]
) -> np.ndarray:
    """Signals (N, electrodes, samples) with the missing electrodes interpolated by MNE (Perrin et al. 1989).

    Parameters
    ----------
    positions
        Electrode → (x, y, z) on the unit sphere.
    """
    import mne

    info = mne.create_info(list(ch_names), 1.0, "eeg", verbose="error")
    info.set_montage(mne.channels.make_dig_montage(head_positions(positions), coord_frame="head"), verbose="error")
    found = signals.astype(np.float64)
    for rows, absent in _groups(missing):
        epochs = mne.EpochsArray(found[rows] * 1e-6, info, verbose="error")
        epochs.info["bads"] = [name for name, is_absent in zip(ch_names, absent, strict=True) if is_absent]
        # The centre of head_positions; by default, MNE fits one to the electrodes.
        found[rows] = epochs.interpolate_bads(origin=(0.0, 0.0, 0.04), verbose="error").get_data(units="µV")
    return found


def ridge(
    signals: np.ndarray, missing: np.ndarray, train: np.ndarray, validation: np.ndarray, *, is_average: bool
) -> np.ndarray:
    """Signals (N, electrodes, samples) with the missing electrodes predicted from the given ones of the same time.

    A regression for each set of missing electrodes is fitted to windows of training people; its penalty is the best
    for windows of validation people. With an average reference, all are referenced to the given electrodes, as
    `signals` are.
    """
    from sklearn.linear_model import Ridge

    found = signals.astype(np.float64)
    for rows, absent in _groups(missing):
        x, y = _split(train, absent, is_average)
        x_val, y_val = _split(validation, absent, is_average)
        unit = np.square(x).sum() / x.shape[1]
        fitted = [Ridge(alpha=alpha * unit, fit_intercept=False, copy_X=True).fit(x, y) for alpha in ALPHAS]
        best = min(fitted, key=lambda each: np.square(each.predict(x_val).reshape(y_val.shape) - y_val).mean())
        coefficients = best.coef_.reshape(absent.sum(), -1)  # (missing, given)
        found[np.ix_(rows, absent)] = coefficients @ found[np.ix_(rows, ~absent)]
    return found


def _split(windows: np.ndarray, absent: np.ndarray, is_average: bool) -> tuple[np.ndarray, np.ndarray]:
    """Given and missing electrodes at all times of windows, (times, given) and (times, missing)."""
    if is_average:
        windows = referenced(windows, np.broadcast_to(absent[:, None], windows.shape))
    times = windows.transpose(0, 2, 1).reshape(-1, len(absent)).astype(np.float64)
    times = times[:: -(-len(times) // MOST_SAMPLES)]
    return times[:, ~absent], times[:, absent]


def _groups(missing: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Windows that miss the same electrodes: their numbers, and bool (electrodes,)."""
    sets, number = np.unique(missing.any(axis=-1), axis=0, return_inverse=True)
    for index, absent in enumerate(sets):
        yield np.flatnonzero(number.reshape(-1) == index), absent
