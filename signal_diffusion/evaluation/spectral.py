"""Metrics of the spectrum and of its bands."""

from __future__ import annotations

import numpy as np
from scipy.stats import wasserstein_distance

from signal_diffusion.evaluation.features import BANDS, Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric, by_electrode
from signal_diffusion.evaluation.per_window import band_of

__all__ = ["METRICS", "scaled_wasserstein"]

JUDGED = (1.0, 45.0)
"""Frequencies of the distance of spectra, Hz; the upper edge is excluded."""


def log_spectral_distance(real: Features, synthetic: Features) -> Measurement:
    """Root mean square over electrodes and 1 to 45 Hz of the difference of mean spectra in dB."""
    frequencies = real.frequencies
    judged = (frequencies >= JUDGED[0]) & (frequencies < JUDGED[1])
    levels = [10 * np.log10(each.spectrum.mean(0, dtype=np.float64) + 1e-12) for each in (real, synthetic)]
    squared = (levels[1] - levels[0]) ** 2  # (C, F)
    return Measurement(
        value=float(np.sqrt(squared[:, judged].mean())),
        bands={band: float(np.sqrt(squared[:, band_of(frequencies, band)].mean())) for band in BANDS},
        electrodes=by_electrode(real, np.sqrt(squared[:, judged].mean(1))),
    )


def band_power_distance(real: Features, synthetic: Features) -> Measurement:
    """Wasserstein-1 distance of log10 band power ÷ its standard deviation in real windows, mean over electrodes."""
    return scaled_wasserstein(real, synthetic, "band_power", tuple(BANDS))


def alpha_peak_difference(real: Features, synthetic: Features) -> Measurement:
    """Difference of the median frequencies of the alpha peak, Hz."""
    return Measurement(value=float(abs(np.median(synthetic.alpha_peak) - np.median(real.alpha_peak))))


def aperiodic_difference(real: Features, synthetic: Features) -> Measurement:
    """Difference of the median aperiodic exponents, mean over electrodes."""
    medians = [np.median(each.aperiodic[..., 1], axis=0) for each in (real, synthetic)]
    found = np.abs(medians[1] - medians[0])
    return Measurement(value=float(found.mean()), electrodes=by_electrode(real, found))


def scaled_wasserstein(real: Features, synthetic: Features, name: str, bands: tuple[str, ...]) -> Measurement:
    """Wasserstein-1 distance of a feature (N, C, bands) ÷ its standard deviation in real windows."""
    first, second = (getattr(each, name) for each in (real, synthetic))
    std = first.std(0)
    if not (std > 0).all():
        raise Unavailable("at least two different real windows are needed, without flat electrodes")
    found = np.array(
        [
            [wasserstein_distance(first[:, c, b], second[:, c, b]) for b in range(first.shape[2])]
            for c in range(first.shape[1])
        ]
    )
    found /= std
    return Measurement(
        value=float(found.mean()),
        bands=dict(zip(bands, found.mean(0).tolist(), strict=True)),
        electrodes=by_electrode(real, found.mean(1)),
    )


METRICS = (
    Metric(
        name="lsd",
        title="LSD",
        unit="dB",
        question="spectrum",
        quick=True,
        definition="Welch spectra (Hann, 2 s, 50 % overlap), mean over windows; root mean square over electrodes and 1 "
        "to 45 Hz of their difference in dB.",
        compute=log_spectral_distance,
    ),
    Metric(
        name="bp-w1",
        title="BP-W1",
        question="spectrum",
        quick=True,
        definition="log10 band power of each window and electrode (δ 1–4, θ 4–8, α 8–13, β 13–30, γ 30–45 Hz): "
        "Wasserstein-1 distance ÷ standard deviation of real windows, mean over electrodes and bands.",
        compute=band_power_distance,
    ),
    Metric(
        name="alpha-peak",
        title="Alpha peak",
        unit="Hz",
        offset=0.1,
        question="spectrum",
        definition="Difference of the median frequencies of the largest peak from 7 to 13 Hz above the aperiodic part "
        "of each window's spectrum, averaged over electrodes in dB.",
        compute=alpha_peak_difference,
    ),
    Metric(
        name="aperiodic",
        title="Aperiodic exponent",
        offset=0.02,
        question="spectrum",
        definition="Exponent of a power law fitted to each window's spectrum from 2 to 40 Hz without 7 to 14 Hz: "
        "difference of medians, mean over electrodes.",
        compute=aperiodic_difference,
    ),
)
