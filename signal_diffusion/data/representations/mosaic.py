"""All electrodes of a window in one square picture: strips of short-time spectra, side by side.

The layout of existing data sets of EEG pictures. Where a strip has columns enough for overlapping frames it holds the
signal; where it has not, its columns are averages, and there is no way back.
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

LOWEST = 1.0  # Hz, of logarithmic rows
_POINTS = 16  # per logarithmic row, at which its band is read; the widest is some 4 bins


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """Square pictures of `electrodes` strips of `size // electrodes` columns; what is over on the right is empty.

    Underneath is an `STFT` with `size` bins. Where one frame per column reaches over the window with hops of half a
    frame at most, that is the picture, and invertible. Elsewhere each column pools the frames of its share of the
    window, four to a frame's length: sqrt(mean |X|²), with the phase of the frame in the middle. A window that the
    frames do not divide is continued by reflection.

    Logarithmic rows average the power of their band, interpolated between bins, and take the phase of the nearest bin.
    """

    layout: ClassVar[str] = "mosaic"

    sampling_rate: float = 125.0
    """Hz."""
    window: int = 2048
    """Samples of a window, at least 2 · (size - 1)."""
    electrodes: int
    """Strips."""
    size: int = 64
    """Rows and columns of a picture."""
    frequency: Literal["linear", "log"] = "linear"
    """Spacing of the rows: from 0 Hz, or from 1 Hz and in equal ratios, to Nyquist."""

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
                f"--frequency log: its rows start at {LOWEST:g} Hz, where a rate of {self.sampling_rate:g} Hz has "
                "ended; use linear"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        return self.size, self.size

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """What a picture is made from: (electrodes, window)."""
        return self.electrodes, self.window

    @property
    def strip(self) -> int:
        """Columns of an electrode."""
        return self.size // self.electrodes

    @property
    def columns(self) -> int:
        """Of a picture, that are filled."""
        return self.electrodes * self.strip

    @property
    def invertible(self) -> bool:
        """Whether a picture holds all of its signals."""
        return self.frames_per_column == 1 and self.frequency == "linear"

    @property
    def frames_per_column(self) -> int:
        """1, or how many are pooled."""
        if _even(self.window / self.strip) <= self._n_fft / 2:
            return 1
        return -(-self.window * 4 // (self.strip * self._n_fft))

    @cached_property
    def stft(self) -> STFT:
        """The transform of each electrode, over the window and what continues it to whole hops."""
        frames = self.strip * self.frames_per_column
        hop = _even(self.window / frames)
        return STFT(sampling_rate=self.sampling_rate, window=frames * hop, n_fft=self._n_fft, hop=hop)

    @property
    def frequencies(self) -> Tensor:
        """Of the rows, in Hz, ascending."""
        return self.stft.frequencies if self.frequency == "linear" else self._log_frequencies(torch.arange(self.size))

    @property
    def rows_per_octave(self) -> float | None:
        """Of logarithmic rows; None for linear ones."""
        octaves = torch.tensor(self.sampling_rate / 2 / LOWEST).log2().item()
        return (self.size - 1) / octaves if self.frequency == "log" else None

    @property
    def rows_below_4_hz(self) -> int:
        """What delta and slower rhythms take of the picture."""
        return int((self.frequencies < 4).sum())

    def forward(self, signal: Tensor) -> Tensor:
        """Transform µV (*, electrodes, window) to complex amplitudes in µV (*, size, size), 0 in empty columns."""
        over = self.stft.window - self.window
        spectrum = self.stft.forward(torch.cat([signal, signal[..., -over - 1 : -1].flip(-1)], dim=-1))
        if not self.invertible:
            spectrum = self._pooled(spectrum)  # (*, electrodes, size, strip)
        tiled = spectrum.transpose(-3, -2).flatten(-2)  # (*, size, columns)
        return torch.nn.functional.pad(tiled, (0, self.size - self.columns))

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Return µV (*, electrodes, window) of (*, size, size), where the mosaic is invertible."""
        return self.stft.inverse(self._strips(spectrum))[..., : self.window]

    @property
    def _n_fft(self) -> int:
        return 2 * (self.size - 1)

    def _strips(self, picture: Tensor) -> Tensor:  # (*, size, size) -> (*, electrodes, size, strip)
        if not self.invertible:
            why = f"columns of {self.frames_per_column} frames" if self.frames_per_column > 1 else "logarithmic rows"
            raise UserError(
                f"layout mosaic: a picture with {why} does not hold the signals; use --layout electrode, or linear "
                "rows and a larger --picture-size, for pictures that can be turned back"
            )
        return picture[..., : self.columns].unflatten(-1, (self.electrodes, self.strip)).transpose(-3, -2)

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
        """What takes power in bins to the mean over the rows' bands, (size, bins)."""
        edges = self._log_frequencies(torch.arange(self.size + 1) - 0.5).clamp(max=self.sampling_rate / 2)
        places = (torch.arange(_POINTS) + 0.5) / _POINTS
        bins = torch.lerp(edges[:-1, None], edges[1:, None], places) / (self.sampling_rate / self._n_fft)
        lower = bins.floor().clamp(max=self.size - 2)
        weights = torch.zeros(self.size, self.size)
        weights.scatter_add_(1, lower.long(), (1 - (bins - lower)) / _POINTS)
        return weights.scatter_add_(1, lower.long() + 1, (bins - lower) / _POINTS)


def _even(number: float) -> int:
    """Round up to an even number."""
    return -int(-number // 2) * 2
