"""Metrics of amplitudes and of how signals change over time."""

from __future__ import annotations

import numpy as np
from scipy.stats import wasserstein_distance

from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric, by_electrode
from signal_diffusion.evaluation.per_window import ENVELOPE_BANDS
from signal_diffusion.evaluation.spectral import scaled_wasserstein

__all__ = ["METRICS"]


def amplitude_distance(real: Features, synthetic: Features) -> Measurement:
    """Wasserstein-1 distance of sample values ÷ their standard deviation in real windows, mean over electrodes."""
    first, second = (
        np.moveaxis(each.quantiles, 1, 0).reshape(each.quantiles.shape[1], -1) for each in (real, synthetic)
    )
    std = first.std(1)
    if not (std > 0).all():
        raise Unavailable("an electrode is flat in all real windows")
    found = np.array([wasserstein_distance(a, b) for a, b in zip(first, second, strict=True)]) / std
    return Measurement(value=float(found.mean()), electrodes=by_electrode(real, found))


def kurtosis_difference(real: Features, synthetic: Features) -> Measurement:
    """Absolute difference of the mean kurtosis of windows, mean over electrodes."""
    means = [each.kurtosis.mean(0) for each in (real, synthetic)]
    found = np.abs(means[1] - means[0])
    return Measurement(value=float(abs(means[1].mean() - means[0].mean())), electrodes=by_electrode(real, found))


def autocorrelation_difference(real: Features, synthetic: Features) -> Measurement:
    """Root mean square difference of the mean autocorrelations to 1 s."""
    squared = (synthetic.autocorrelation.mean(0) - real.autocorrelation.mean(0)) ** 2  # (C, lags)
    return Measurement(value=float(np.sqrt(squared.mean())), electrodes=by_electrode(real, np.sqrt(squared.mean(1))))


def envelope_distance(real: Features, synthetic: Features) -> Measurement:
    """Wasserstein-1 distance of the variation of envelopes ÷ its standard deviation in real windows."""
    return scaled_wasserstein(real, synthetic, "envelope_variation", ENVELOPE_BANDS)


METRICS = (
    Metric(
        name="amp-w1",
        title="Amp-W1",
        question="amplitude",
        quick=True,
        definition="Wasserstein-1 distance of the sample values of each electrode (64 quantiles of each window, its "
        "mean removed) ÷ standard deviation of the real ones, mean over electrodes.",
        compute=amplitude_distance,
    ),
    Metric(
        name="kurtosis",
        title="ΔKurt",
        offset=0.1,
        question="amplitude",
        quick=True,
        definition="Absolute difference of the mean kurtosis of windows and electrodes: bursts and artefacts.",
        compute=kurtosis_difference,
    ),
    Metric(
        name="acf",
        title="ACF",
        question="rhythm",
        definition="Root mean square difference, over electrodes and lags to 1 s, of the mean autocorrelation.",
        compute=autocorrelation_difference,
    ),
    Metric(
        name="envcv-w1",
        title="EnvCV-W1",
        question="rhythm",
        quick=True,
        definition="Standard deviation ÷ mean of the Hilbert envelope of each window and electrode in θ, α and β "
        "(Butterworth of order 3, zero phase, 1 s trimmed at both ends): Wasserstein-1 distance ÷ standard deviation "
        "of real windows. It is 0.523 for every Gaussian process, so that only true waxing and waning gets it right.",
        compute=envelope_distance,
    ),
)
