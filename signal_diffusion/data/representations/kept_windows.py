"""What examples are normalised by, measured on a part of the training windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from signal_diffusion.diffusion.normalisation import Normalisation, cosines

__all__ = ["EvenlyKept", "moments_of_rows", "spectrum_of"]

MOST = 256
"""Windows that are kept: 40 MB of 19 electrodes and 2048 samples."""
DIGITS = 6
"""Significant ones, in the card."""
FLOOR = 1e-3
"""Added to the variances of a spectrum, whose mean is 1: what a band-pass has removed is not made as loud as EEG."""


class EvenlyKept:
    """Up to `MOST` of the windows that pass by, evenly spread over all, whose number is not known before."""

    def __init__(self) -> None:
        self.windows: list[Tensor] = []
        self._every, self._seen = 1, 0

    def passing(self, signals: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same signals (n, electrodes, window)."""
        for signal in signals:
            for window in signal:
                if self._seen % self._every == 0:
                    self.windows.append(window.float().clone())
                if len(self.windows) > MOST:
                    self.windows, self._every = self.windows[::2], 2 * self._every
                self._seen += 1
            yield signal


def moments_of_rows(
    windows: Iterable[Tensor], to_tensor: Callable[[Tensor], Tensor], columns: int, exponent: tuple[float, ...]
) -> Normalisation:
    """The normalisation by mean and standard deviation over windows, examples and the first columns; others are empty.

    A row that is constant, such as the imaginary part at 0 Hz, has a standard deviation of 1.
    """
    expand, count = Normalisation(exponent=exponent).expanded, 0
    total = squares = torch.zeros((), dtype=torch.float64)  # (C, H)
    for window in windows:
        tensor = to_tensor(window)
        values = expand(tensor.double().reshape(-1, *tensor.shape[-3:]))  # (examples, C, H, W)
        empty, values = values[0, :, 0, columns:], values[..., :columns]
        total, squares = total + values.sum((0, 3)), squares + values.square().sum((0, 3))
        count += values.shape[0] * values.shape[3]
    mean = total / count
    variance = squares / count - mean.square()
    # What is left of a constant row is rounding, of its own values or, in a Fourier transform, of the largest ones.
    rounding = 1e-12 * (squares / count).amax(1, keepdim=True)
    std = torch.where(variance > rounding, variance.clamp(min=0).sqrt(), 1.0)
    return Normalisation(
        mean=_rounded(mean),
        std=_rounded(std),
        exponent=exponent,
        columns=columns,
        empty=tuple(empty[:, :1].flatten().tolist()),
    )


def spectrum_of(scores: Iterable[Tensor]) -> tuple[float, ...]:
    """Standard deviation of each coefficient of the DCT-II of z-scores (electrodes, window); NaN rows do not count."""
    squares, count = torch.zeros((), dtype=torch.float64), 0
    for each in scores:
        present = each[~each.isnan().any(1)].double()
        squares = squares + (present @ cosines(each.shape[-1])).square().sum(0)
        count += len(present)
    return _rounded((squares / count + FLOOR).sqrt()[None])[0]


def _rounded(values: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(f"{value:.{DIGITS}g}") for value in row) for row in values.tolist())
