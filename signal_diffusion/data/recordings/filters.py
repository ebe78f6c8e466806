"""The filters of recordings: band-pass with notches, and anti-aliasing."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import scipy.signal

from signal_diffusion.errors import UserError, one_line

__all__ = ["anti_aliasing", "band_pass"]

_LOBES = 20  # zero crossings per side of the anti-aliasing filter: for 125 Hz, −1 dB at 60 Hz, −40 dB at 67 Hz


def band_pass(rate: float, band: tuple[float, float], notch: Sequence[float]) -> np.ndarray:
    """One zero-phase kernel (taps,), of odd length, for band-pass and notches, all in Hz, at the dataset's rate."""
    import mne

    design = mne.filter.create_filter
    try:
        kernel = design(None, rate, *band, verbose="ERROR")
        if notch:  # same design as `mne.filter.notch_filter`
            lines = np.asarray(notch)
            half = lines / 400 + 0.5
            stop = design(
                None, rate, lines + half, lines - half,
                l_trans_bandwidth=0.5, h_trans_bandwidth=0.5, verbose="ERROR",
            )  # fmt: skip
            kernel = np.convolve(kernel, stop)
    except ValueError as error:
        raise UserError(
            f"band, notch: no filter for {band} and {notch} Hz at a rate of {rate:g} Hz "
            f"({one_line(error)}); choose other frequencies"
        ) from error
    assert len(kernel) % 2 == 1
    return kernel


def anti_aliasing(ratio: Fraction) -> np.ndarray:
    """Low-pass kernel (taps,) at the common multiple of both rates; its delay is whole samples of the lower rate."""
    if ratio == 1:
        return np.ones(1)
    most = max(ratio.numerator, ratio.denominator)
    half = _LOBES * most
    return ratio.numerator * scipy.signal.firwin(2 * half + 1, 1 / most, window=("kaiser", 5.0))
