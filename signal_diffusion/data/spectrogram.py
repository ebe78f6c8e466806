"""Spectrograms: one picture per electrode and window, as decibels alone or with what makes them invertible.

Pictures have time from left to right and 0 Hz in the *bottom* row (the last), as spectrograms are drawn. The first
channel is always the level in dB re 1 µV.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from signal_diffusion.data.representation import DEFAULT_PICTURES, Inverse, PictureOptions, Representation
from signal_diffusion.data.stft import STFT, decibels

__all__ = ["DbIq", "DbOnly", "DbPolar"]


@dataclass(frozen=True, kw_only=True)
class _Spectrogram(Representation):
    """What all spectrograms share: the transform, and the channel of decibels, [db_min, db_max] → [-1, 1], clipped.

    At 125 Hz the rows are 0 to 62.5 Hz in steps of 0.99 Hz and the columns 0.256 s apart.
    """

    column: ClassVar[str] = "image"

    # The lower tail is long (a noise's level has no lower bound) and empty of meaning; the upper one is blinks.
    percentiles: ClassVar[tuple[float, float]] = (0.5, 99.99)
    # Below this is the stop band of somebody's filter, which would take most of the greys of a picture.
    max_range_db: ClassVar[float] = 70.0

    sampling_rate: float
    """Hz."""
    window: int
    """Samples."""
    db_min: float
    """Level of the value -1, dB re 1 µV."""
    db_max: float
    """Level of the value 1, dB re 1 µV."""

    @property
    def layout(self) -> str:
        """One example per electrode and window."""
        return "electrode"

    @property
    def stft(self) -> STFT:
        """The transform underneath."""
        return STFT(sampling_rate=self.sampling_rate, window=self.window)

    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Average the decibels of (*, C, bins, frames): frequencies in Hz and dB re 1 µV, ascending."""
        levels = self._levels(tensor)
        return self.stft.frequencies.to(levels.device), levels.transpose(-1, -2).flatten(0, -2).mean(0)

    def picture(self, tensor: Tensor) -> Tensor:
        """The decibels."""
        return tensor[0]

    def parameters(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    def _decibels(self, spectrum: Tensor) -> Tensor:  # complex (*, bins, frames) -> the channel, still upside down
        scaled = (decibels(spectrum) - self.db_min) / (self.db_max - self.db_min) * 2 - 1
        return scaled.clamp(-1, 1)

    def _levels(self, tensor: Tensor) -> Tensor:  # (*, C, bins, frames) -> dB re 1 µV (*, bins, frames)
        level = (tensor[..., 0, :, :].float().clamp(-1, 1) + 1) / 2 * (self.db_max - self.db_min) + self.db_min
        return level.flip(-2)

    @classmethod
    def _measured(cls, signals: Iterable[Tensor], stft: STFT) -> tuple[float, float, float]:
        """Limits of the level to 0.01 dB, by histogram, and the largest magnitude in µV, with bounded memory."""
        low, high, steps = -120.0, 120.0, 24_000
        counts, largest = torch.zeros(steps, dtype=torch.float64), 0.0
        for signal in signals:
            spectrum = stft.forward(signal.float())
            counts += torch.histc(decibels(spectrum), bins=steps, min=low, max=high)
            largest = max(largest, spectrum.abs().max().item())
        shares = counts.cumsum(0) / counts.sum()
        below, above = (
            round(low + (high - low) / steps * int(torch.searchsorted(shares, percentile / 100)), 2)
            for percentile in cls.percentiles
        )
        return max(below, above - cls.max_range_db), above, largest


@dataclass(frozen=True, kw_only=True)
class DbOnly(_Spectrogram):
    """1 × bins × frames: the level alone. Its phase has to be found again, so the inverse is not exact."""

    name: ClassVar[str] = "db-only"

    @property
    def inverse(self) -> Inverse:
        """Up to the phase."""
        return "approximate"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one example: (1, bins, frames)."""
        return (1, *self.stft.shape)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV (*, window) into pictures (*, 1, bins, frames)."""
        return self._decibels(self.stft.forward(signal.float())).flip(-2).unsqueeze(-3)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn pictures (*, 1, bins, frames) into µV (*, window), the phase found by fast Griffin-Lim."""
        magnitude = 10 ** (self._levels(tensor) / 20)
        generator = generator or torch.Generator().manual_seed(0)
        phase = torch.rand(magnitude.shape, generator=generator) * (2 * torch.pi)
        return self.stft.griffin_lim(magnitude, phase.to(magnitude.device))

    @classmethod
    def fit(
        cls,
        signals: Iterable[Tensor],
        *,
        sampling_rate: float,
        window: int,
        pictures: PictureOptions = DEFAULT_PICTURES,
    ) -> Self:
        """Set the limits to percentiles of the level."""
        below, above, _ = cls._measured(signals, STFT(sampling_rate=sampling_rate, window=window))
        return cls(sampling_rate=sampling_rate, window=window, db_min=below, db_max=above)


@dataclass(frozen=True, kw_only=True)
class _Invertible(_Spectrogram):
    """3 × bins × frames: the level for the eye, and two channels that hold the whole spectrum.

    EEG's spectrum falls as 1/f, so amplitudes are companded by a power law, |x / scale| ** exponent, lest all but the
    lowest rows be grey. The scale is one number, the largest magnitude of the training windows; none of them is
    clipped.
    """

    scale: float
    """Magnitude of the companded value 1, µV."""
    exponent: float = 0.4
    """Of the power law."""

    @property
    def inverse(self) -> Inverse:
        """To rounding."""
        return "exact"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one example: (3, bins, frames)."""
        return (3, *self.stft.shape)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV (*, window) into pictures (*, 3, bins, frames)."""
        spectrum = self.stft.forward(signal.float())
        channels = (self._decibels(spectrum), *self._channels(spectrum))
        return torch.stack([channel.clamp(-1, 1) for channel in channels], dim=-3).flip(-2)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn pictures (*, 3, bins, frames) into µV (*, window), exactly; the decibels are not read."""
        _, first, second = tensor.float().clamp(-1, 1).flip(-2).unbind(-3)
        return self.stft.inverse(self._spectrum(first, second))

    @classmethod
    def fit(
        cls,
        signals: Iterable[Tensor],
        *,
        sampling_rate: float,
        window: int,
        pictures: PictureOptions = DEFAULT_PICTURES,
    ) -> Self:
        """Set the limits to percentiles of the level, and the scale to the largest magnitude."""
        below, above, largest = cls._measured(signals, STFT(sampling_rate=sampling_rate, window=window))
        return cls(sampling_rate=sampling_rate, window=window, db_min=below, db_max=above, scale=largest)

    @abstractmethod
    def _channels(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Two channels that hold complex amplitudes in µV."""

    @abstractmethod
    def _spectrum(self, first: Tensor, second: Tensor) -> Tensor:
        """The inverse of `_channels`."""

    def _companded(self, values: Tensor) -> Tensor:
        return values.sign() * (values.abs() / self.scale) ** self.exponent

    def _expanded(self, values: Tensor) -> Tensor:
        return values.sign() * values.abs() ** (1 / self.exponent) * self.scale


class DbIq(_Invertible):
    """Level, in-phase and quadrature: the real and the imaginary part, companded."""

    name: ClassVar[str] = "db-iq"

    def _channels(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        return self._companded(spectrum.real), self._companded(spectrum.imag)

    def _spectrum(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.complex(self._expanded(first), self._expanded(second))


class DbPolar(_Invertible):
    """Level, magnitude and phase: the magnitude companded from [0, scale] to [-1, 1], the phase in [-π, π) / π."""

    name: ClassVar[str] = "db-polar"

    def _channels(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        phase = spectrum.angle() / torch.pi
        return self._companded(spectrum.abs()) * 2 - 1, torch.where(phase >= 1, phase - 2, phase)

    def _spectrum(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.polar(self._expanded((first + 1) / 2), second * torch.pi)
