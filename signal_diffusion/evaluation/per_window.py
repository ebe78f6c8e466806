"""How each feature of windows is computed; `features.Features` asks for them by name.

Notation: N windows, C electrodes, L samples, F frequencies. The mean of each window and electrode is removed first;
amplitude is never normalised away.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import fft, signal, stats

from signal_diffusion.data.bands import BANDS
from signal_diffusion.evaluation.random_kernels import random_kernel_features
from signal_diffusion.evaluation.windows import SEGMENT, Unavailable

if TYPE_CHECKING:
    from signal_diffusion.evaluation.features import Features

__all__ = ["COMPUTE", "ENVELOPE_BANDS", "KEPT", "RIDGE", "band_of"]

ENVELOPE_BANDS = ("theta", "alpha", "beta")
LAG = 1.0
"""Longest lag of the autocorrelation, s."""
TRIMMED = 1.0
"""Cut from both ends of an envelope, where the filter rings, s."""
LEVELS = 64
"""Quantiles that stand for the amplitudes of a window."""
APERIODIC_FITTED = (2.0, 40.0)
"""Frequencies of which the aperiodic part is fitted, Hz …"""
ALPHA_EXCLUDED = (7.0, 14.0)
"""… but for those around alpha."""
ALPHA_SEARCHED = (6.5, 13.5)
"""Where the peak of alpha is looked for, Hz: 7 to 13 with neighbours."""
RIDGE = 0.01
"""Of the mean variance, added to the diagonal of covariances before their logarithm."""
FLAT = 0.1
"""µV, standard deviation below which an electrode is flat."""
LARGEST = 500.0
"""µV, largest plausible absolute value."""
SMALLEST = 1e-12
"""µV², added to powers before their logarithm, for flat electrodes."""


def band_of(frequencies: np.ndarray, band: str) -> np.ndarray:
    """Which frequencies are in a band, (F,); raises `Unavailable` if none is."""
    low, high = BANDS[band]
    inside = (frequencies >= low) & (frequencies < high)
    if not inside.any():
        raise Unavailable(f"no frequency of {band} ({low} to {high} Hz): the windows are too short or the rate too low")
    return inside


def _spectrum(features: Features) -> np.ndarray:
    """Power spectral density by Welch's method (Hann, 50 % overlap), µV²/Hz, (N, C, F)."""
    sfreq, segment = features.sfreq, features.segment
    return features.map(lambda x: signal.welch(x, sfreq, "hann", segment, segment // 2, detrend=False)[1])


def _band_power(features: Features) -> np.ndarray:
    """log10 of the power in each band, µV², (N, C, bands)."""
    step = features.frequencies[1]
    inside = [band_of(features.frequencies, band) for band in BANDS]
    return np.stack([np.log10(features.spectrum[..., each].sum(-1) * step + SMALLEST) for each in inside], -1)


def _quantiles(features: Features) -> np.ndarray:
    """Quantiles of the sample values, µV, (N, C, LEVELS)."""
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    return features.map(lambda x: np.moveaxis(np.quantile(x, levels, axis=-1), 0, -1))


def _residual(features: Features) -> np.ndarray:
    """Spectrum in dB above its aperiodic part in `ALPHA_SEARCHED`, mean over electrodes, (N, f)."""
    searched = (features.frequencies >= ALPHA_SEARCHED[0]) & (features.frequencies <= ALPHA_SEARCHED[1])
    decades = np.log10(features.frequencies[searched])
    level = np.log10(features.spectrum[..., searched] + SMALLEST)
    fitted = features.aperiodic[..., :1] - features.aperiodic[..., 1:] * decades
    return 10 * (level - fitted).mean(1)


def _aperiodic(features: Features) -> np.ndarray:
    """Offset (log10 µV²/Hz at 1 Hz) and exponent of the aperiodic part b − χ log10 f of each spectrum, (N, C, 2).

    Least squares in logarithmic coordinates over `APERIODIC_FITTED`, without the alpha band (after Donoghue et al.,
    Nature Neuroscience 23, 2020, eq. 2 without a knee; peaks outside of alpha are not modelled).
    """
    frequencies = features.frequencies
    fitted = (frequencies >= APERIODIC_FITTED[0]) & (frequencies <= APERIODIC_FITTED[1])
    fitted &= (frequencies < ALPHA_EXCLUDED[0]) | (frequencies > ALPHA_EXCLUDED[1])
    if fitted.sum() < 8:
        raise Unavailable("too few frequencies from 2 to 40 Hz: the windows are too short or the rate too low")
    design = np.stack([np.ones(fitted.sum()), -np.log10(frequencies[fitted])], -1)
    return np.log10(features.spectrum[..., fitted] + SMALLEST) @ np.linalg.pinv(design).T


def _alpha_peak(features: Features) -> np.ndarray:
    """Frequency of the largest peak above the aperiodic part from 7 to 13 Hz, mean spectrum of electrodes, Hz, (N,).

    A parabola through the largest value and its neighbours finds it between the frequencies of the spectrum.
    """
    residual, frequencies = _residual(features), features.frequencies
    first = np.flatnonzero(frequencies >= ALPHA_SEARCHED[0])[0]
    top = residual[:, 1:-1].argmax(1) + 1
    rows = np.arange(len(residual))
    left, middle, right = (residual[rows, top + offset] for offset in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1), 0.0)
    return (first + top + np.clip(shift, -0.5, 0.5)) * frequencies[1]


def _unusable(features: Features) -> np.ndarray:
    """Whether an electrode is flat or has a value beyond ± 500 µV, (N, C)."""
    return features.map(lambda x: (x.std(-1) < FLAT) | (np.abs(x).max(-1) > LARGEST)) > 0


def _kurtosis(features: Features) -> np.ndarray:
    """Excess kurtosis, 0 for a Gaussian and for a flat electrode, (N, C)."""
    return features.map(lambda x: np.nan_to_num(stats.kurtosis(x, axis=-1)))


def _autocorrelation(features: Features) -> np.ndarray:
    """Autocorrelation at lags from one sample to 1 s, (N, C, lags)."""
    lags, length = round(LAG * features.sfreq), features.samples
    if lags >= length:
        raise Unavailable(f"windows of {features.seconds:g} s; longer than {LAG:g} s are needed")

    def compute(x: np.ndarray) -> np.ndarray:
        power = np.abs(fft.rfft(x, fft.next_fast_len(length + lags))) ** 2
        found = fft.irfft(power, fft.next_fast_len(length + lags))[..., : lags + 1]
        return found[..., 1:] / np.maximum(found[..., :1], SMALLEST)

    return features.map(compute)


def _envelope_variation(features: Features) -> np.ndarray:
    """Standard deviation ÷ mean of the envelope in θ, α and β, (N, C, 3); about 0.523 for every Gaussian process."""
    sfreq, trimmed = features.sfreq, round(TRIMMED * features.sfreq)
    if features.samples < 3 * trimmed:
        raise Unavailable(f"windows of {features.seconds:g} s; at least {3 * TRIMMED:g} s are needed")
    if sfreq <= 2 * BANDS["beta"][1]:
        raise Unavailable(f"a rate of {sfreq:g} Hz; more than {2 * BANDS['beta'][1]} Hz is needed")

    def compute(x: np.ndarray, band: str) -> np.ndarray:
        sections = signal.butter(3, BANDS[band], "bandpass", fs=sfreq, output="sos")
        filtered = signal.sosfiltfilt(sections, x, axis=-1)
        length = x.shape[-1]
        analytic = signal.hilbert(filtered, fft.next_fast_len(length))[..., :length]
        envelope = np.abs(analytic)[..., trimmed:-trimmed]
        return envelope.std(-1) / np.maximum(envelope.mean(-1), SMALLEST)

    return np.stack([features.map(partial(compute, band=band)) for band in ENVELOPE_BANDS], -1)


def _covariance(features: Features) -> np.ndarray:
    """Covariance of the electrodes, µV², (N, C, C)."""

    def compute(x: np.ndarray) -> np.ndarray:
        signals = torch.from_numpy(x)
        return (signals @ signals.mT / x.shape[-1]).numpy()  # NumPy's product of stacks is 20 times slower

    return features.map(compute)


def _correlation(features: Features) -> np.ndarray:
    """Correlation of the electrodes, (N, C, C); 0 with a flat electrode."""
    std = np.sqrt(np.diagonal(features.covariance, axis1=-2, axis2=-1))
    return features.covariance / np.maximum(std[:, :, None] * std[:, None, :], SMALLEST)


def _log_covariance(features: Features) -> np.ndarray:
    """Upper triangle of the matrix logarithm of the covariance, (N, C (C + 1) / 2).

    Off-diagonal entries are multiplied by √2, so that the norm is that of the matrix. A ridge of 1 % of the mean
    variance keeps the direction without variance of an average reference from dominating.
    """
    covariance = features.covariance.astype(np.float64)
    size = covariance.shape[-1]
    ridge = RIDGE * np.trace(covariance, axis1=-2, axis2=-1) / size + SMALLEST
    values, vectors = np.linalg.eigh(covariance + ridge[:, None, None] * np.eye(size))
    logarithm = (vectors * np.log(np.maximum(values, SMALLEST))[:, None, :]) @ vectors.swapaxes(-1, -2)
    rows, columns = np.triu_indices(size)
    return logarithm[:, rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2))


def _coherence(features: Features) -> np.ndarray:
    """Magnitude-squared coherence of each pair of electrodes in each band, (N, pairs, bands)."""
    segment = features.segment
    first, second = np.triu_indices(len(features.ch_names), 1)
    if not len(first):
        raise Unavailable("one electrode; at least two are needed")
    if features.samples < 2 * segment:
        raise Unavailable(f"windows of {features.seconds:g} s; at least {2 * SEGMENT:g} s are needed")
    bands = [band_of(features.frequencies, band) for band in BANDS]

    def compute(x: np.ndarray) -> np.ndarray:
        segments = np.lib.stride_tricks.sliding_window_view(x, segment, axis=-1)[..., :: segment // 2, :]
        spectra = fft.rfft((segments * signal.get_window("hann", segment)).astype(np.float32), axis=-1)
        spectra = spectra.transpose(0, 3, 1, 2)  # (n, F, C, segments)
        cross = spectra @ spectra.conj().swapaxes(-1, -2)  # (n, F, C, C)
        power = np.diagonal(cross, axis1=-2, axis2=-1).real
        squared = np.abs(cross) ** 2 / np.maximum(power[..., None] * power[..., None, :], SMALLEST)
        return np.stack([squared[:, each].mean(1)[:, first, second] for each in bands], -1)

    return features.map(compute)


KEPT = {"spectrum", "quantiles", "kurtosis", "envelope_variation", "coherence", "random_kernels"}
"""What is worth keeping in the cache."""
COMPUTE: dict[str, Callable[[Features], np.ndarray]] = {
    "spectrum": _spectrum,
    "band_power": _band_power,
    "aperiodic": _aperiodic,
    "alpha_peak": _alpha_peak,
    "quantiles": _quantiles,
    "unusable": _unusable,
    "kurtosis": _kurtosis,
    "autocorrelation": _autocorrelation,
    "envelope_variation": _envelope_variation,
    "covariance": _covariance,
    "correlation": _correlation,
    "log_covariance": _log_covariance,
    "coherence": _coherence,
    "random_kernels": lambda features: random_kernel_features(features.windows.signals),
}
"""Name of an attribute of `Features` → how it is computed of all windows."""
