"""Quantiles of amplitudes, counted in one pass: of training windows when they are prepared, and of samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

__all__ = ["LEVELS", "Amplitudes"]

LEVELS = (0.5, 0.95, 0.999)
"""Shares of the values that lie below a quantile."""
_LOWEST, _HIGHEST, _BINS = -4.0, 6.0, 10_000  # log10 µV; a bin is 0.23 % wide


class Amplitudes:
    """Counts of |x| in µV, where the mean of each electrode and window is removed from x."""

    def __init__(self) -> None:
        self._counts = torch.zeros(_BINS, dtype=torch.float64)

    def add(self, signals: Tensor) -> None:
        """Count the values of signals (*, samples) in µV; those that are all NaN are absent electrodes."""
        x = signals.float()
        x = x[~x.isnan().all(-1)]
        decades = (x - x.mean(-1, keepdim=True)).abs().log10().clamp(_LOWEST, _HIGHEST)
        self._counts += torch.histc(decades, _BINS, _LOWEST, _HIGHEST).double()

    def counted(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield each part after counting it."""
        for part in parts:
            self.add(part)
            yield part

    def quantiles(self) -> dict[str, float]:
        """Share of the values → µV that they lie below, with four digits; for each of `LEVELS`."""
        shares = self._counts.cumsum(0) / self._counts.sum()
        bins = torch.searchsorted(shares, torch.tensor(LEVELS, dtype=torch.float64))
        found = 10 ** (_LOWEST + (bins + 0.5) * (_HIGHEST - _LOWEST) / _BINS)
        return {f"{level:g}": float(f"{value:.4g}") for level, value in zip(LEVELS, found.tolist(), strict=True)}
