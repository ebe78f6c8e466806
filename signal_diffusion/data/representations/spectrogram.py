"""Spectrograms: decibels only, or with channels that make them invertible.

A transform converts a window to complex amplitudes in rows and columns: an `STFT` makes one image per electrode, a
`Mosaic` one image of all electrodes. Time runs from left to right, and the lowest frequency is in the *bottom* row (the
last), as in plots of spectrograms. The first channel is always the level in dB re 1 µV.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from signal_diffusion.data.representations.kept_windows import EvenlyKept, moments_of_rows
from signal_diffusion.data.representations.mosaic import Mosaic
from signal_diffusion.data.representations.representation import (
    CONSTANT_SIGNALS,
    DEFAULT_PICTURES,
    Inverse,
    PictureOptions,
    Representation,
)
from signal_diffusion.data.representations.stft import STFT, decibels, griffin_lim, power
from signal_diffusion.diffusion.normalisation import UNCHANGED, Normalisation
from signal_diffusion.errors import UserError

__all__ = ["DbIq", "DbOnly", "DbPolar", "Spectrogram", "WithPhase"]


@dataclass(frozen=True, kw_only=True)
class Spectrogram(Representation):
    """Base of all spectrograms: the transform, and the channel of decibels, [db_min, db_max] → [-1, 1], clipped."""

    column: ClassVar[str] = "image"
    planes: ClassVar[tuple[str, ...]] = ("dB",)
    """What the channels of an example are."""

    # The lower tail is long (the level of noise has no lower bound) and meaningless; the upper tail is blinks.
    percentiles: ClassVar[tuple[float, float]] = (0.5, 99.99)
    # Lower levels are the stop band of a filter, and would use most of the range of values.
    max_range_db: ClassVar[float] = 70.0

    transform: STFT | Mosaic
    """Converts signals to complex amplitudes in rows and columns, and back."""
    db_min: float
    """Level at value -1, dB re 1 µV."""
    db_max: float
    """Level at value 1, dB re 1 µV."""
    normalisation: Normalisation = UNCHANGED
    """Mean and standard deviation of each row. Older cards do not have it; networks trained on them had none."""

    def __post_init__(self) -> None:
        (channels, rows, width), found = self.shape, self.normalisation
        columns = self.transform.columns
        fits = all(len(each) == channels and {*map(len, each)} == {rows} for each in (found.mean, found.std))
        fits &= (found.columns, len(found.empty)) == (columns, channels if columns < width else 0)
        if found != UNCHANGED and not (fits and found.exponent == self.exponents):
            raise ValueError(
                f"normalisation: expected mean and std of {channels} channels with {rows} rows, and the exponents "
                f"{', '.join(f'{each:g}' for each in self.exponents)}"
            )

    @property
    def layout(self) -> str:
        """Layout of the transform: one example per electrode and window, or one per window."""
        return self.transform.layout

    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Mean decibels of (*, C, rows, columns): ascending frequencies, Hz, and dB re 1 µV."""
        levels = self.levels(tensor)[..., : self.transform.columns]
        return self.transform.frequencies.to(levels.device), levels.transpose(-1, -2).flatten(0, -2).mean(0)

    def levels(self, tensor: Tensor) -> Tensor:
        """Levels of (*, C, rows, columns), dB re 1 µV (*, rows, columns), the lowest frequency first."""
        level = (tensor[..., 0, :, :].float().clamp(-1, 1) + 1) / 2 * (self.db_max - self.db_min) + self.db_min
        return level.flip(-2)

    def picture(self, tensor: Tensor) -> Tensor:
        """The channel of decibels."""
        return tensor[0]

    @classmethod
    def check(cls, pictures: PictureOptions, *, sampling_rate: float, window: int, electrodes: int) -> None:
        """Raise a `UserError` if windows of this length cannot become images."""
        _transform(pictures, sampling_rate, window, electrodes)

    @classmethod
    def fit(
        cls,
        signals: Iterable[Tensor],
        *,
        sampling_rate: float,
        window: int,
        pictures: PictureOptions = DEFAULT_PICTURES,
    ) -> Self:
        """Set the limits to percentiles of the level (unless given), and the scale to the largest magnitude.

        Rows are normalised by up to 256 of the windows.
        """
        remaining = iter(signals)
        first = next(remaining, None)
        assert first is not None, "a training split has windows"
        transform = _transform(pictures, sampling_rate, window, first.shape[-2])
        kept = EvenlyKept()
        limits, largest = cls._measured(kept.passing(chain([first], remaining)), transform)
        low, high = pictures.db_limits or limits
        if largest == 0 or low >= high:
            raise UserError(CONSTANT_SIGNALS)
        found = cls(transform=transform, db_min=float(low), db_max=float(high), **cls._scaled(largest))
        moments = moments_of_rows(kept.windows, found.to_tensor, transform.columns, found.exponents)
        return replace(found, normalisation=moments)

    def parameters(self) -> dict[str, Any]:
        """The fields, and those of the transform, as JSON values."""
        own = asdict(self)
        return own.pop("transform") | own

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Rebuild from `parameters()`; only a `Mosaic` has the field `electrodes`."""
        kind = Mosaic if "electrodes" in parameters else STFT
        names = {field.name for field in fields(kind)}
        transform = kind(**{name: value for name, value in parameters.items() if name in names})
        own = {name: value for name, value in parameters.items() if name not in names}
        if "normalisation" in own:
            own["normalisation"] = Normalisation.from_json(own["normalisation"])
        return cls(transform=transform, **own)

    @property
    def exponents(self) -> tuple[float, ...]:
        """Exponent by which each channel is companded, which diffusion expands: 1 for those that are not."""
        return (1.0,)

    @classmethod
    def _scaled(cls, largest: float) -> dict[str, Any]:
        """Fields that depend on the largest magnitude in µV."""
        return {}

    def _decibels(self, spectrum: Tensor) -> Tensor:  # complex (*, rows, columns) -> values, lowest frequency first
        scaled = (decibels(spectrum) - self.db_min) / (self.db_max - self.db_min) * 2 - 1
        return scaled.clamp(-1, 1)

    @classmethod
    def _measured(cls, signals: Iterable[Tensor], transform: STFT | Mosaic) -> tuple[tuple[float, float], float]:
        """Limits of the level, from a histogram with 0.01 dB bins, and the largest magnitude in µV."""
        low, high, steps = -120.0, 120.0, 24_000
        counts, largest = torch.zeros(steps, dtype=torch.float64), 0.0
        for signal in signals:
            spectrum = transform.forward(signal.float())[..., : transform.columns]
            counts += torch.histc(decibels(spectrum), bins=steps, min=low, max=high).to(counts)
            largest = max(largest, power(spectrum).max().sqrt().item())
        shares = counts.cumsum(0) / counts.sum()
        below, above = (
            round(low + (high - low) / steps * int(torch.searchsorted(shares, percentile / 100)), 2)
            for percentile in cls.percentiles
        )
        return (max(below, round(above - cls.max_range_db, 2)), above), largest


def _transform(pictures: PictureOptions, sampling_rate: float, window: int, electrodes: int) -> STFT | Mosaic:
    if pictures.layout == "electrode":
        return STFT(sampling_rate=sampling_rate, window=window)
    return Mosaic(
        sampling_rate=sampling_rate,
        window=window,
        electrodes=electrodes,
        size=pictures.size,
        frequency=pictures.frequency,
    )


@dataclass(frozen=True, kw_only=True)
class DbOnly(Spectrogram):
    """1 × rows × columns: only the level. The phase must be estimated, so the inverse is approximate."""

    name: ClassVar[str] = "db-only"

    @property
    def inverse(self) -> Inverse:
        """`approximate` (the phase is estimated) if the transform is invertible, else `none`."""
        return "approximate" if self.transform.invertible else "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one example: (1, rows, columns)."""
        return (1, *self.transform.shape)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV, (*, window) or (*, electrodes, window), into images (*, 1, rows, columns)."""
        return self._decibels(self.transform.forward(signal.float())).flip(-2).unsqueeze(-3)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn images (*, 1, rows, columns) back into µV; the phase is estimated by fast Griffin-Lim."""
        magnitude = 10 ** (self.levels(tensor) / 20)
        return griffin_lim(self.transform, magnitude, generator or torch.Generator().manual_seed(0))


@dataclass(frozen=True, kw_only=True)
class WithPhase(Spectrogram):
    """3 × rows × columns: the level, and two channels with the complete complex spectrum.

    EEG's spectrum falls as 1/f, so amplitudes are companded by a power law, |x / scale| ** exponent: otherwise all but
    the lowest rows would be near 0. The scale is one number, the largest magnitude in the training windows, so that
    none of them is clipped.
    """

    scale: float
    """Magnitude at companded value 1, µV."""
    exponent: float = 0.25
    """Exponent of the power law."""

    @property
    def inverse(self) -> Inverse:
        """`exact` (to rounding) if the transform is invertible, else `none`."""
        return "exact" if self.transform.invertible else "none"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one example: (3, rows, columns)."""
        return (3, *self.transform.shape)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV, (*, window) or (*, electrodes, window), into images (*, 3, rows, columns)."""
        spectrum = self.transform.forward(signal.float())
        channels = (self._decibels(spectrum), *self._channels(spectrum))
        return torch.stack([channel.clamp(-1, 1) for channel in channels], dim=-3).flip(-2)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn images (*, 3, rows, columns) back into µV, exactly; the decibels are not used."""
        return self.transform.inverse(self.spectrum(tensor))

    def spectrum(self, tensor: Tensor) -> Tensor:
        """Complex amplitudes in µV of (*, 3, rows, columns), (*, rows, columns), the lowest frequency first."""
        _, first, second = tensor.float().clamp(-1, 1).flip(-2).unbind(-3)
        return self._spectrum(first, second)

    @classmethod
    def _scaled(cls, largest: float) -> dict[str, Any]:
        return {"scale": largest}

    @abstractmethod
    def _channels(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Encode complex amplitudes in µV as two channels."""

    @abstractmethod
    def _spectrum(self, first: Tensor, second: Tensor) -> Tensor:
        """Inverse of `_channels`."""

    def _companded(self, values: Tensor) -> Tensor:
        return values.sign() * (values.abs() / self.scale) ** self.exponent

    def _expanded(self, values: Tensor) -> Tensor:
        return values.sign() * values.abs() ** (1 / self.exponent) * self.scale


class DbIq(WithPhase):
    """Level, in-phase and quadrature: the companded real and imaginary parts."""

    name: ClassVar[str] = "db-iq"
    planes: ClassVar[tuple[str, ...]] = ("dB", "I", "Q")

    @property
    def exponents(self) -> tuple[float, ...]:
        """Diffusion sees linear amplitudes: companded Gaussian ones have two peaks, and errors grow when expanded."""
        return (1.0, self.exponent, self.exponent)

    def _channels(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        return self._companded(spectrum.real), self._companded(spectrum.imag)

    def _spectrum(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.complex(self._expanded(first), self._expanded(second))


class DbPolar(WithPhase):
    """Level, magnitude and phase: the magnitude companded from [0, scale] to [-1, 1], the phase in [-π, π) / π."""

    name: ClassVar[str] = "db-polar"
    planes: ClassVar[tuple[str, ...]] = ("dB", "magnitude", "phase")

    def _channels(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        phase = spectrum.angle() / torch.pi
        return self._companded(spectrum.abs()) * 2 - 1, torch.where(phase >= 1, phase - 2, phase)

    def _spectrum(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.polar(self._expanded((first + 1) / 2), second * torch.pi)
