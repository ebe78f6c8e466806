"""Signals in microvolts ⇄ the tensors that models see, as exchangeable representations.

A representation is a value: its parameters travel in the dataset's card and then in the checkpoint, so
whatever a model generates can be turned back into microvolts. A new one is a class that implements
`Representation`, and a line in `REPRESENTATIONS`.

Pictures have time from left to right and 0 Hz in the *bottom* row (the last), as spectrograms are drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor

from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.data.dataset import DatasetCard

__all__ = ["REPRESENTATIONS", "STFT", "DbOnly", "Representation", "representation_named", "representation_of"]

SILENCE = 1e-6  # µV; the logarithm's floor, −120 dB


class Representation(ABC):
    """How a window of EEG becomes a tensor, and the way back."""

    name: ClassVar[str]
    layout: ClassVar[str]
    column: ClassVar[str]
    """The column of the dataset that holds it: `image` or `signal`."""
    per_electrode: ClassVar[bool]
    """Whether each electrode of a window is an example of its own, or all electrodes are one example."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Of one example: (C, H, W)."""

    @abstractmethod
    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV, (*, window) or (*, electrodes, window), into values in [-1, 1], (*, C, H, W), float32."""

    @abstractmethod
    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn (*, C, H, W) back into µV, float32, on the tensor's device.

        What the tensor does not hold (the phase of `db-only`) is drawn from `generator`, one of the CPU, so
        that every device gives the same; None is a generator seeded with 0. Examples draw one after the
        other.
        """

    @abstractmethod
    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Average the level of (*, C, H, W): frequencies in Hz (F,) and dB re 1 µV (F,), ascending."""

    @classmethod
    @abstractmethod
    def fit(cls, signals: Iterable[Tensor], *, sampling_rate: float, window: int) -> Self:
        """Take the parameters that depend on data from the training split's windows, seen once, in µV."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Everything `from_parameters` needs, as JSON values."""

    @classmethod
    def from_parameters(cls, parameters: dict[str, Any]) -> Self:
        """Build the representation whose `parameters()` these are."""
        return cls(**parameters)


@dataclass(frozen=True, kw_only=True)
class STFT:
    """One-sided short-time Fourier transform with `window / hop` frames, exactly invertible on all samples.

    Frame k is centred on sample hop·k + hop/2 and the ends are continued by reflection, so that every sample
    of the window is seen by at least three frames and the squared Hann windows never sum to zero (NOLA).
    Values are scaled to the amplitude in µV of a sinusoid at the centre of its bin (0 Hz and Nyquist, which
    have no mirror image, come out doubled).
    """

    sampling_rate: float = 125.0
    """Hz."""
    window: int = 2048
    """Samples of a window, a multiple of `hop`."""
    n_fft: int = 126
    """Samples of a frame; n_fft / 2 + 1 bins from 0 Hz to Nyquist."""
    hop: int = 32
    """Samples from one frame to the next, even."""

    def __post_init__(self) -> None:
        if self.window % self.hop or self.window <= self._margin:
            minimum = (self._margin // self.hop + 1) * self.hop
            raise UserError(
                f"window: {self.window} samples do not make whole columns of a picture; "
                f"use a multiple of {self.hop}, at least {minimum}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Bins, frames."""
        return self.n_fft // 2 + 1, self.window // self.hop

    @property
    def frequencies(self) -> Tensor:
        """Of the bins, in Hz, ascending."""
        return torch.arange(self.shape[0], dtype=torch.float32) * (self.sampling_rate / self.n_fft)

    @property
    def _margin(self) -> int:
        return (self.n_fft - self.hop) // 2

    @property
    def _scale(self) -> float:
        return 4 / self.n_fft  # two halves of the spectrum, and a periodic Hann window sums to n_fft / 2

    def _taper(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.n_fft, dtype=torch.float32, device=like.device)

    def forward(self, signal: Tensor) -> Tensor:
        """Transform µV (*, window) to complex amplitudes in µV (*, bins, frames)."""
        margin = self._margin
        padded = torch.cat(
            [signal[..., 1 : margin + 1].flip(-1), signal, signal[..., -margin - 1 : -1].flip(-1)], dim=-1
        )
        taper = self._taper(signal)
        frames = padded.unfold(-1, self.n_fft, self.hop) * (taper * self._scale)  # (*, frames, n_fft)
        return torch.fft.rfft(frames).transpose(-1, -2)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Return the signal, µV (*, window), whose transform is nearest in the least-squares sense."""
        taper = self._taper(spectrum)
        frames = torch.fft.irfft(spectrum.transpose(-1, -2), n=self.n_fft) * (taper / self._scale)
        weight = self._overlap_add((taper**2).expand(self.shape[1], -1))
        return self._overlap_add(frames) / weight

    def _overlap_add(self, frames: Tensor) -> Tensor:  # (*, frames, n_fft) -> (*, window)
        # Frames are cut into blocks of one hop: a few large additions instead of one per frame.
        parts = -(-self.n_fft // self.hop)
        frames = torch.nn.functional.pad(frames, (0, parts * self.hop - self.n_fft))
        count = frames.shape[-2]
        blocks = frames.unflatten(-1, (parts, self.hop))  # (*, frames, parts, hop)
        total = frames.new_zeros(*frames.shape[:-2], count + parts - 1, self.hop)
        for part in range(parts):
            total[..., part : part + count, :] += blocks[..., part, :]
        return total.flatten(-2)[..., self._margin : self._margin + self.window]

    def griffin_lim(self, magnitude: Tensor, phase: Tensor, *, iterations: int = 64, momentum: float = 0.99) -> Tensor:
        """Find a signal (*, window) with this magnitude (*, bins, frames), both µV, from an initial phase.

        The fast algorithm of Perraudin, Balazs and Søndergaard, WASPAA 2013,
        doi.org/10.1109/WASPAA.2013.6701851: c_n = STFT(iSTFT(magnitude · e^(i∠t_{n−1}))), t_n = c_n +
        momentum · (c_n − c_{n−1}).
        """
        extrapolated = torch.polar(magnitude, phase)
        previous = extrapolated
        for _ in range(iterations):
            consistent = self.forward(self.inverse(_with_magnitude(extrapolated, magnitude)))
            extrapolated = consistent + momentum * (consistent - previous)
            previous = consistent
        return self.inverse(_with_magnitude(extrapolated, magnitude))


def _power(spectrum: Tensor) -> Tensor:
    # `abs` of complex numbers guards against overflow, and takes longer than the transform.
    return spectrum.real.square() + spectrum.imag.square()


def _with_magnitude(spectrum: Tensor, magnitude: Tensor) -> Tensor:
    return spectrum * (magnitude * _power(spectrum).clamp_min(1e-24).rsqrt())


@dataclass(frozen=True, kw_only=True)
class DbOnly(Representation):
    """One picture per electrode and window: dB re 1 µV, [db_min, db_max] → [-1, 1], clipped.

    At 125 Hz the rows are 0 to 62.5 Hz in steps of 0.99 Hz and the columns 0.256 s apart.
    """

    name: ClassVar[str] = "db-only"
    layout: ClassVar[str] = "electrode"
    column: ClassVar[str] = "image"
    per_electrode: ClassVar[bool] = True

    # The lower tail is long (a noise's level has no lower bound) and empty of meaning; the upper one is
    # blinks.
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
    def stft(self) -> STFT:
        """The transform underneath."""
        return STFT(sampling_rate=self.sampling_rate, window=self.window)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one example: (1, bins, frames)."""
        return (1, *self.stft.shape)

    def to_tensor(self, signal: Tensor) -> Tensor:
        """Turn µV (*, window) into pictures (*, 1, bins, frames)."""
        level = _decibels(self.stft.forward(signal.float()))
        scaled = (level - self.db_min) / (self.db_max - self.db_min) * 2 - 1
        return scaled.clamp(-1, 1).flip(-2).unsqueeze(-3)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn pictures (*, 1, bins, frames) into µV (*, window), the phase found by fast Griffin-Lim."""
        magnitude = 10 ** (self._levels(tensor) / 20)
        generator = generator or torch.Generator().manual_seed(0)
        phase = torch.rand(magnitude.shape, generator=generator) * (2 * torch.pi)
        return self.stft.griffin_lim(magnitude, phase.to(magnitude.device))

    def mean_spectrum(self, tensor: Tensor) -> tuple[Tensor, Tensor]:
        """Average the decibels of (*, 1, bins, frames): frequencies in Hz and dB re 1 µV, ascending."""
        levels = self._levels(tensor)
        return self.stft.frequencies.to(levels.device), levels.transpose(-1, -2).flatten(0, -2).mean(0)

    def _levels(self, tensor: Tensor) -> Tensor:  # (*, 1, bins, frames) -> dB re 1 µV (*, bins, frames)
        level = (tensor.float().clamp(-1, 1) + 1) / 2 * (self.db_max - self.db_min) + self.db_min
        return level.squeeze(-3).flip(-2)

    @classmethod
    def fit(cls, signals: Iterable[Tensor], *, sampling_rate: float, window: int) -> Self:
        """Set the limits to percentiles of the level, to 0.01 dB, from a histogram, with bounded memory."""
        stft = STFT(sampling_rate=sampling_rate, window=window)
        low, high, steps = -120.0, 120.0, 24_000
        counts = torch.zeros(steps, dtype=torch.float64)
        for signal in signals:
            counts += torch.histc(_decibels(stft.forward(signal.float())), bins=steps, min=low, max=high)
        shares = counts.cumsum(0) / counts.sum()
        below, above = (
            round(low + (high - low) / steps * int(torch.searchsorted(shares, percentile / 100)), 2)
            for percentile in cls.percentiles
        )
        below = max(below, above - cls.max_range_db)
        return cls(sampling_rate=sampling_rate, window=window, db_min=below, db_max=above)

    def parameters(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def _decibels(spectrum: Tensor) -> Tensor:
    return 10 * torch.log10(_power(spectrum).clamp_min(SILENCE**2))


REPRESENTATIONS: dict[str, type[Representation]] = {
    "db-only": DbOnly,
}


def representation_named(name: str) -> type[Representation]:
    """Look a representation up, or raise a `UserError` that lists those there are."""
    if name not in REPRESENTATIONS:
        raise UserError(f"representation: there is no {name!r}; use one of: {', '.join(REPRESENTATIONS)}")
    return REPRESENTATIONS[name]


def representation_of(card: DatasetCard) -> Representation:
    """Rebuild the representation that made a dataset from its card."""
    return representation_named(card.representation["name"]).from_parameters(card.representation["parameters"])
