"""The short-time Fourier transform of all spectrograms, its exact inverse, and phase estimation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from signal_diffusion.errors import UserError

__all__ = ["STFT", "decibels", "griffin_lim", "power"]

SILENCE = 1e-6  # µV, floor of the logarithm: −120 dB


@dataclass(frozen=True, kw_only=True)
class STFT:
    """One-sided short-time Fourier transform with `window / hop` frames, exactly invertible on all samples.

    Frame k is centred on sample hop·k + hop/2 and the ends are extended by reflection, so that at least three frames
    cover every sample of the window and the squared Hann windows never sum to zero (NOLA). Values are scaled to the
    amplitude in µV of a sinusoid at the centre of its bin (0 Hz and Nyquist, which have no mirror image, are doubled).
    """

    layout: ClassVar[str] = "electrode"
    invertible: ClassVar[bool] = True

    sampling_rate: float = 125.0
    """Hz."""
    window: int = 2048
    """Length of a window, samples; a multiple of `hop`."""
    n_fft: int = 126
    """Length of a frame, samples; gives n_fft / 2 + 1 bins from 0 Hz to Nyquist."""
    hop: int = 32
    """Samples from one frame to the next; even."""

    def __post_init__(self) -> None:
        if self.window % self.hop or self.window <= self._margin:
            minimum = (self._margin // self.hop + 1) * self.hop
            raise UserError(
                f"window: {self.window} samples are not a whole number of image columns; "
                f"use a multiple of {self.hop}, at least {minimum}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames)."""
        return self.n_fft // 2 + 1, self.window // self.hop

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Shape of the signal of one image: (window,)."""
        return (self.window,)

    @property
    def columns(self) -> int:
        """Number of columns of an image that are filled: all."""
        return self.shape[1]

    @property
    def frequencies(self) -> Tensor:
        """Frequencies of the bins, Hz, ascending."""
        return torch.arange(self.shape[0], dtype=torch.float32) * (self.sampling_rate / self.n_fft)

    @property
    def _margin(self) -> int:
        return (self.n_fft - self.hop) // 2

    @property
    def _scale(self) -> float:
        return (
            4 / self.n_fft
        )  # 2 for the one-sided spectrum, and 2 / n_fft because a periodic Hann window sums to n_fft / 2

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
        """Least-squares inverse: the signal, µV (*, window), with the nearest transform."""
        taper = self._taper(spectrum)
        frames = torch.fft.irfft(spectrum.transpose(-1, -2), n=self.n_fft) * (taper / self._scale)
        weight = self._overlap_add((taper**2).expand(self.shape[1], -1))
        return self._overlap_add(frames) / weight

    def _overlap_add(self, frames: Tensor) -> Tensor:  # (*, frames, n_fft) -> (*, window)
        # Add blocks of one hop: a few large additions instead of one per frame.
        parts = -(-self.n_fft // self.hop)
        frames = torch.nn.functional.pad(frames, (0, parts * self.hop - self.n_fft))
        count = frames.shape[-2]
        blocks = frames.unflatten(-1, (parts, self.hop))  # (*, frames, parts, hop)
        total = frames.new_zeros(*frames.shape[:-2], count + parts - 1, self.hop)
        for part in range(parts):
            total[..., part : part + count, :] += blocks[..., part, :]
        return total.flatten(-2)[..., self._margin : self._margin + self.window]


class _Transform(Protocol):
    @property
    def signal_shape(self) -> tuple[int, ...]: ...
    def forward(self, signal: Tensor) -> Tensor: ...
    def inverse(self, spectrum: Tensor) -> Tensor: ...


def griffin_lim(
    transform: _Transform,
    magnitude: Tensor,
    generator: torch.Generator,
    *,
    iterations: int = 64,
    momentum: float = 0.99,
) -> Tensor:
    """Find a signal in µV with a given magnitude in µV, (*, rows, columns), starting from the phase of white noise.

    The fast Griffin-Lim algorithm of Perraudin, Balazs and Søndergaard, WASPAA 2013,
    doi.org/10.1109/WASPAA.2013.6701851: c_n = STFT(iSTFT(magnitude · e^(i∠t_{n−1}))), t_n = c_n +
    momentum · (c_n − c_{n−1}). The noise comes from a CPU generator. Its phases are consistent (those of a
    signal) and converge to a better result than independent ones. Reflections instead of projections would be better
    still, but are chaotic: rounding errors, and so the device and the batch size, would change the signal.
    """
    # Uniform: normal random numbers depend on how many are generated at once.
    noise = torch.rand(*magnitude.shape[:-2], *transform.signal_shape, generator=generator) - 0.5
    extrapolated = previous = _with_magnitude(transform.forward(noise.to(magnitude.device)), magnitude)
    for _ in range(iterations):
        consistent = transform.forward(transform.inverse(_with_magnitude(extrapolated, magnitude)))
        extrapolated = consistent + momentum * (consistent - previous)
        previous = consistent
    return transform.inverse(_with_magnitude(extrapolated, magnitude))


def decibels(spectrum: Tensor) -> Tensor:
    """Level of complex amplitudes in µV, in dB re 1 µV; at least -120."""
    return 10 * torch.log10(power(spectrum).clamp_min(SILENCE**2))


def power(spectrum: Tensor) -> Tensor:
    """Squared magnitude."""
    # Not `abs().square()`: complex `abs` guards against overflow and takes longer than the transform.
    return spectrum.real.square() + spectrum.imag.square()


def _with_magnitude(spectrum: Tensor, magnitude: Tensor) -> Tensor:
    return spectrum * (magnitude * power(spectrum).clamp_min(1e-24).rsqrt())
