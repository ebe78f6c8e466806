"""Metrics of spectrograms as they are stored, not of the signals that are made from them."""

from __future__ import annotations

from functools import partial

import numpy as np

from signal_diffusion.data.bands import BANDS
from signal_diffusion.evaluation.distribution import COMPONENTS, frechet
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.measurement import Measurement, Metric, by_electrode
from signal_diffusion.evaluation.per_spectrogram import BIN, BLOCKS, PARTS
from signal_diffusion.evaluation.per_window import band_of
from signal_diffusion.evaluation.spectral import JUDGED

__all__ = ["METRICS", "spectrogram_blocks"]


def value_distance(real: Features, synthetic: Features) -> Measurement:
    """Wasserstein-1 distance of the values of each plane and row ÷ their standard deviation in real windows."""
    shares = [each.spectrogram_histogram.sum(0, dtype=np.float64) for each in (real, synthetic)]  # (P, R, bins)
    first, second = (each / each.sum(-1, keepdims=True) for each in shares)
    values = BIN * np.arange(first.shape[-1])
    variance = (first * values**2).sum(-1) - (first * values).sum(-1) ** 2
    found = BIN * np.abs((second - first).cumsum(-1)).sum(-1) / np.sqrt(np.maximum(variance, BIN**2))  # (P, R)
    stored = real.spectrograms
    return Measurement(
        value=float(found.mean()),
        bands={
            f"{plane} {band}": float(row[band_of(stored.frequencies, band)].mean())
            for plane, row in zip(stored.representation.planes, found, strict=True)
            for band in BANDS
        },
    )


def level_distance(real: Features, synthetic: Features) -> Measurement:
    """Root mean square over electrodes and rows from 1 to 45 Hz of the difference of mean levels, dB."""
    frequencies = real.spectrograms.frequencies
    judged = (frequencies >= JUDGED[0]) & (frequencies < JUDGED[1])
    squared = (synthetic.spectrogram_levels.mean(0) - real.spectrogram_levels.mean(0)) ** 2  # (C, R)
    return Measurement(
        value=float(np.sqrt(squared[:, judged].mean())),
        bands={band: float(np.sqrt(squared[:, band_of(frequencies, band)].mean())) for band in BANDS},
        electrodes=by_electrode(real, np.sqrt(squared[:, judged].mean(1))),
    )


def spectrogram_blocks(features: Features) -> np.ndarray:
    """Means and standard deviations of blocks of the spectrograms of each window, (N, d)."""
    return features.spectrogram_blocks


def inconsistency(real: Features, synthetic: Features) -> Measurement:
    """How far spectrograms are from those of any signal, mean over windows, electrodes and bands, %."""
    found = 100 * synthetic.spectrogram_residual.mean(0)  # (C, parts, bands)
    return Measurement(
        value=float(found.mean()),
        bands={
            f"{part} {band}": float(each)
            for part, row in zip(PARTS, found.mean(0), strict=False)
            for band, each in zip(BANDS, row, strict=True)
        },
        electrodes=by_electrode(synthetic, found.mean((1, 2))),
    )


METRICS = (
    Metric(
        name="spectrogram-w1",
        title="Spectrogram W1",
        question="spectrogram",
        of_spectrograms=True,
        definition="Stored values of each plane (decibels, and those with the phase) and row of the spectrograms, over "
        f"all columns, electrodes and windows: Wasserstein-1 distance of histograms (bins of {BIN:g} on the scale from "
        "-1 to 1) ÷ standard deviation of the real ones, mean over planes and rows.",
        compute=value_distance,
    ),
    Metric(
        name="spectrogram-lsd",
        title="Spectrogram LSD",
        unit="dB",
        question="spectrogram",
        of_spectrograms=True,
        definition="Decibels of the stored spectrograms, mean over columns and windows; root mean square over "
        "electrodes and rows from 1 to 45 Hz of the difference.",
        compute=level_distance,
    ),
    Metric(
        name="spectrogram-fd",
        title="Spectrogram FD",
        question="spectrogram",
        of_spectrograms=True,
        least=2 * COMPONENTS + 1,
        definition="Fréchet distance; features of a window: mean and standard deviation of the stored values in "
        f"{BLOCKS[0]} × {BLOCKS[1]} blocks (frequency × time) of each plane and electrode, z-scored and whitened to "
        f"{COMPONENTS} principal components of real windows.",
        compute=partial(frechet, of=spectrogram_blocks),
    ),
    Metric(
        name="inconsistency",
        title="Inconsistency",
        unit="%",
        question="spectrogram",
        of_spectrograms=True,
        quick=True,
        offset=1.0,
        definition="How far a spectrogram X is from that of a signal: ‖STFT(x) − X‖ ÷ ‖X‖ in each band, where x is the "
        "signal that its inverse gives; mean over windows, electrodes and bands. X are the magnitudes that the "
        "decibels state and, if there are planes with the phase, the complex amplitudes: the mean of both.",
        compute=inconsistency,
    ),
)
