"""How each feature of stored spectrograms is computed; `features.Features` asks for them by name.

Notation: N windows, C electrodes, P planes (decibels, and those with the phase), R rows (frequencies, ascending),
W columns (time).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from signal_diffusion.data.bands import BANDS
from signal_diffusion.data.representations.spectrogram import WithPhase
from signal_diffusion.evaluation.per_window import band_of

if TYPE_CHECKING:
    from signal_diffusion.evaluation.features import Features
    from signal_diffusion.evaluation.stored_spectrograms import Spectrograms

__all__ = ["BIN", "BLOCKS", "OF_SPECTROGRAMS", "PARTS"]

LARGEST = 1.25
"""Values of examples are in [-1, 1]; samples may exceed that a little."""
BINS = 50
BIN = 2 * LARGEST / BINS
"""Width of a bin of the histograms."""
BLOCKS = (8, 4)
"""Of rows and of columns."""
PARTS = ("dB", "complex")
"""What can be inconsistent: the magnitudes that the decibels state, and the amplitudes of the planes with the phase."""
CHUNK = 32
"""Windows that are read at a time, which bounds memory."""
SMALLEST = 1e-12


def _histogram(features: Features) -> np.ndarray:
    """How often each value occurs in a row of a plane, over electrodes and columns, (N, P, R, BINS)."""

    def compute(stored: Spectrograms, images: Tensor, signals: Tensor) -> Tensor:
        values = stored.by_electrode(images.flip(-2))  # (n, C, P, R, W)
        n, _, planes, rows, _ = values.shape
        bins = ((values + LARGEST) / BIN).floor().clamp(0, BINS - 1).long()
        first = BINS * torch.arange(n * planes * rows).view(n, 1, planes, rows, 1)
        counts = torch.bincount((first + bins).flatten(), minlength=n * planes * rows * BINS)
        return counts.view(n, planes, rows, BINS)

    return np.minimum(_mapped(features, compute), np.iinfo(np.uint16).max).astype(np.uint16)


def _levels(features: Features) -> np.ndarray:
    """Level of each row, mean over columns, dB re 1 µV, (N, C, R)."""
    return _mapped(
        features,
        lambda stored, images, _: stored.by_electrode(stored.representation.levels(images)).mean(-1),
    )


def _blocks(features: Features) -> np.ndarray:
    """Mean and standard deviation of the values in blocks of rows and columns, (N, C · P · blocks · 2)."""

    def compute(stored: Spectrograms, images: Tensor, signals: Tensor) -> Tensor:
        values = stored.by_electrode(images.flip(-2))
        n, electrodes, planes, rows, columns = values.shape
        size = min(BLOCKS[0], rows), min(BLOCKS[1], columns)
        flat = values.reshape(n * electrodes, planes, rows, columns)
        mean, square = adaptive_avg_pool2d(flat, size), adaptive_avg_pool2d(flat**2, size)
        return torch.stack([mean, (square - mean**2).clamp_min(0).sqrt()], -1).reshape(n, -1)

    return _mapped(features, compute)


def _residual(features: Features) -> np.ndarray:
    """How far a spectrogram is from that of the signal made from it, ‖STFT(x) − X‖ / ‖X‖, (N, C, parts, bands).

    The parts are those of `PARTS`: only magnitudes if there are no planes with the phase.
    """
    inside = [band_of(features.spectrograms.frequencies, band) for band in BANDS]

    def compute(stored: Spectrograms, images: Tensor, signals: Tensor) -> Tensor:
        representation = stored.representation
        possible = representation.transform.forward(signals.flatten(0, 1) if representation.per_electrode else signals)
        limits = (10 ** (level / 20) for level in (representation.db_min, representation.db_max))
        pairs = [(10 ** (representation.levels(images) / 20), possible.abs().clamp(*limits))]
        if isinstance(representation, WithPhase):
            pairs.append((representation.spectrum(images), possible))
        parts = [_relative(stored.by_electrode(x), stored.by_electrode(y), inside) for x, y in pairs]
        return torch.stack(parts, -2)

    return _mapped(features, compute)


def _relative(stated: Tensor, possible: Tensor, inside: list[np.ndarray]) -> Tensor:
    """‖possible − stated‖ / ‖stated‖ of (n, C, R, W) over the rows of each band and all columns, (n, C, bands)."""
    norms = [
        torch.stack([values[..., torch.from_numpy(rows), :].flatten(-2).norm(dim=-1) for rows in inside], -1)
        for values in (possible - stated, stated)
    ]
    return norms[0] / norms[1].clamp_min(SMALLEST)


def _mapped(features: Features, compute: Callable[[Spectrograms, Tensor, Tensor], Tensor]) -> np.ndarray:
    """Apply a function of images (see `Spectrograms.read`) and signals (n, C, L) to a few windows at a time."""
    stored, signals = features.spectrograms, features.windows.signals
    parts = []
    for start in range(0, len(stored), CHUNK):
        part = torch.from_numpy(np.ascontiguousarray(signals[start : start + CHUNK]))
        parts.append(compute(stored, stored.read(start, start + CHUNK), part).numpy())
    return np.concatenate(parts)


OF_SPECTROGRAMS: Mapping[str, Callable[[Features], np.ndarray]] = {
    "spectrogram_histogram": _histogram,
    "spectrogram_levels": _levels,
    "spectrogram_blocks": _blocks,
    "spectrogram_residual": _residual,
}
"""Name of an attribute of `Features` → how it is computed of all windows."""
