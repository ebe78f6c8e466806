"""All electrodes of a window in one square image: strips of short-time spectra, side by side.

This is the layout of existing datasets of EEG images. A strip with enough columns for overlapping frames is
invertible; with fewer columns, each is an average over frames, and there is no inverse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from signal_diffusion.data.representations.stft import STFT, power
from signal_diffusion.errors import UserError

__all__ = ["Mosaic"]

LOWEST = 1.0  # Hz, the lowest logarithmic row
_POINTS = 16  # sampling points in the band of a logarithmic row; the widest band is about 4 bins


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Square images of `electrodes` strips, `size // electrodes` columns each; the remaining columns are empty.

    It uses an `STFT` with `size` bins. If one frame per column covers the window with hops of at most half a frame,
    the columns are these frames, and the mosaic is invertible. Otherwise each column pools the frames of its part of
    the window, four per frame length: sqrt(mean |X|²), with the phase of the middle frame. The window is extended by
    reflection to a whole number of frames.

    Logarithmic rows average the power in their band, interpolated between bins, and use the phase of the nearest bin.
    """

    layout: ClassVar[str] = "mosaic"

    sampling_rate: float = 125.0
    """Hz."""
    window: int = 2048
    """Length of a window, samples; at least 2 · (size - 1)."""
    electrodes: int
    """Number of strips."""
    size: int = 64
    """Number of rows, and of columns, of an image."""
    frequency: Literal["linear", "log"] = "linear"
    """Spacing of the rows: linear from 0 Hz, or logarithmic from 1 Hz, to Nyquist."""

    def __post_init__(self) -> None:
        if self.electrodes > self.size:
            raise UserError(
                f"layout mosaic: {self.electrodes} electrodes do not fit into {self.size} columns; "
                f"use fewer channels or a --picture-size of at least {self.electrodes + self.electrodes % 2}"
            )
        if self.window < self._n_fft:
            raise UserError(
                f"window: {self.window} samples are too short for a mosaic of {self.size} rows; "
                f"use at least {self._n_fft} samples or a smaller --picture-size"
            )
        if self.frequency == "log" and self.sampling_rate <= 2 * LOWEST:
            raise UserError(
                f"--frequency log: rows start at {LOWEST:g} Hz, which a rate of {self.sampling_rate:g} Hz cannot "
                "represent; use linear"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.size, self.size

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Shape of the signals of one image: (electrodes, window)."""
        return self.electrodes, self.window

    @property
    def strip(self) -> int:
        """Number of columns per electrode."""
        return self.size // self.electrodes

    @property
    def columns(self) -> int:
        """Number of columns of an image that are filled."""
        return self.electrodes * self.strip

    @property
    def invertible(self) -> bool:
        """Whether the signals can be reconstructed from an image."""
        return self.frames_per_column == 1 and self.frequency == "linear"

    @property
    def frames_per_column(self) -> int:
        """Number of frames pooled in each column; 1 = no pooling."""
        if _even(self.window / self.strip) <= self._n_fft / 2:
            return 1
        return -(-self.window * 4 // (self.strip * self._n_fft))

    @cached_property
    def stft(self) -> STFT:
        """Transform of each electrode, over the window extended to whole hops."""
        frames = self.strip * self.frames_per_column
        hop = _even(self.window / frames)
        return STFT(sampling_rate=self.sampling_rate, window=frames * hop, n_fft=self._n_fft, hop=hop)

    @property
    def frequencies(self) -> Tensor:
        """Frequencies of the rows, Hz, ascending."""
        return self.stft.frequencies if self.frequency == "linear" else self._log_frequencies(torch.arange(self.size))

    @property
    def rows_per_octave(self) -> float | None:
        """Logarithmic rows per octave; None for linear rows."""
        octaves = torch.tensor(self.sampling_rate / 2 / LOWEST).log2().item()
        return (self.size - 1) / octaves if self.frequency == "log" else None

    @property
    def rows_below_4_hz(self) -> int:
        """Number of rows for delta and slower rhythms."""
        return int((self.frequencies < 4).sum())

    def forward(self, signal: Tensor) -> Tensor:
        """Transform µV (*, electrodes, window) to complex amplitudes in µV (*, size, size), 0 in empty columns."""
        excess = self.stft.window - self.window
        spectrum = self.stft.forward(torch.cat([signal, signal[..., -excess - 1 : -1].flip(-1)], dim=-1))
        if not self.invertible:
            spectrum = self._pooled(spectrum)  # (*, electrodes, size, strip)
        tiled = spectrum.transpose(-3, -2).flatten(-2)  # (*, size, columns)
        return torch.nn.functional.pad(tiled, (0, self.size - self.columns))

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Reconstruct µV (*, electrodes, window) from (*, size, size); raises `UserError` if not `invertible`."""
        return self.stft.inverse(self._strips(spectrum))[..., : self.window]

    @property
    def _n_fft(self) -> int:
        return 2 * (self.size - 1)

    def _strips(self, image: Tensor) -> Tensor:  # (*, size, size) -> (*, electrodes, size, strip)
        if not self.invertible:
            why = f"columns of {self.frames_per_column} frames" if self.frames_per_column > 1 else "logarithmic rows"
            raise UserError(
                f"layout mosaic: images with {why} cannot be turned into signals; use --layout electrode, or linear "
                "rows and a larger --picture-size"
            )
        return image[..., : self.columns].unflatten(-1, (self.electrodes, self.strip)).transpose(-3, -2)

    def _pooled(self, spectrum: Tensor) -> Tensor:  # (*, bins, frames) -> (*, size, strip)
        frames = spectrum.unflatten(-1, (self.strip, self.frames_per_column))
        level, middle = power(frames).mean(-1), frames[..., self.frames_per_column // 2]
        if self.frequency == "log":
            nearest = (self.frequencies / (self.sampling_rate / self._n_fft)).round().long()
            level, middle = self._bands.to(level.device) @ level, middle[..., nearest.to(middle.device), :]
        return torch.polar(level.sqrt(), middle.angle())

    def _log_frequencies(self, row: Tensor) -> Tensor:
        return LOWEST * (self.sampling_rate / 2 / LOWEST) ** (row / (self.size - 1))

    @cached_property
    def _bands(self) -> Tensor:
        """Matrix (size, bins) from the power in bins to the mean power in the bands of the rows."""
        edges = self._log_frequencies(torch.arange(self.size + 1) - 0.5).clamp(max=self.sampling_rate / 2)
        points = (torch.arange(_POINTS) + 0.5) / _POINTS
        bins = torch.lerp(edges[:-1, None], edges[1:, None], points) / (self.sampling_rate / self._n_fft)
        lower = bins.floor().clamp(max=self.size - 2)
        weights = torch.zeros(self.size, self.size)
        weights.scatter_add_(1, lower.long(), (1 - (bins - lower)) / _POINTS)
        return weights.scatter_add_(1, lower.long() + 1, (bins - lower) / _POINTS)


def _even(number: float) -> int:
    """Round up to an even number."""
    return -int(-number // 2) * 2
