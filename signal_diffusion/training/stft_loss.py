"""The multi-resolution STFT loss of signals, for autoencoders and denoisers."""

from __future__ import annotations

import torch
from torch import Tensor

from signal_diffusion.errors import UserError

__all__ = ["QUIET", "check_window", "stft_loss"]

FRAMES = (64, 128, 256, 512)
"""Frame lengths of the STFTs in samples (0.5 s to 4 s at 125 Hz); the hop is a quarter of a frame."""
QUIET = 1e-2
"""µV, below any amplifier's noise; keeps logarithms and square roots away from 0."""


def stft_loss(x: Tensor, y: Tensor) -> Tensor:
    """Multi-resolution STFT loss (*) of signals y against x, (*, window) in µV.

    Yamamoto, Song and Kim, 2020, https://arxiv.org/abs/1910.11480, equations 3 to 6: spectral convergence,
    ‖|X| - |Y|‖ / ‖|X|‖, plus the mean of |log|X| - log|Y||, averaged over the resolutions whose frames fit.
    """
    losses = []
    for size in (size for size in FRAMES if size <= x.shape[-1]):
        first, second = _magnitudes(x, size), _magnitudes(y, size)
        convergence = (first - second).flatten(1).norm(dim=1) / first.flatten(1).norm(dim=1)
        losses.append(convergence + (first.log() - second.log()).abs().flatten(1).mean(1))
    return torch.stack(losses).mean(0).view(x.shape[:-1])


def check_window(key: str, window: int | None) -> None:
    """Raise a `UserError` that starts with `key` if the windows of a dataset are too short; None = no windows."""
    if window is not None and window < FRAMES[0]:
        raise UserError(
            f"{key}: windows of {window} samples are shorter than the shortest STFT frame ({FRAMES[0]} samples); "
            "expected 0"
        )


def _magnitudes(signal: Tensor, size: int) -> Tensor:  # (*, window) -> µV of a sinusoid (B, bins, frames)
    window = torch.hann_window(size, device=signal.device)
    flat = signal.reshape(-1, signal.shape[-1])
    spectrum = torch.stft(flat, size, size // 4, window=window, return_complex=True) * (4 / size)
    return (spectrum.real.square() + spectrum.imag.square() + QUIET**2).sqrt()
