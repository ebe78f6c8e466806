"""How examples become the x0 of diffusion, whose noise is standard normal: expanded, z-scored, and flattened in time.

Without it, noise drowns what is small: the weak rhythms of a spectrum, or all of a signal whose range an artefact sets.
Signals lose their fast rhythms first, since their power falls with the frequency. If x0 were white, all frequencies
would have the same signal-to-noise ratio at each time (Falck et al., https://arxiv.org/abs/2505.11278), but x0 as many
degrees of freedom as values, more than a narrow network holds. So half of the fall is left in x0, and half in noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["UNCHANGED", "Normalisation", "cosines"]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """x0 = w((e(x) - mean) / std) of examples x (*, C, H, W), with e(x) = sign(x) · |x| ** (1 / exponent).

    Mean and standard deviation are (C or 1, H or 1), of each row or the same for all; the exponent (C or 1). w filters
    along W, so that the power spectrum of x0 is the square root of that which `spectrum`, (W,), says.

    Raises ValueError if they do not fit together, or if exponents or standard deviations are not above zero.
    """

    mean: tuple[tuple[float, ...], ...] = ((0.0,),)
    std: tuple[tuple[float, ...], ...] = ((1.0,),)
    exponent: tuple[float, ...] = (1.0,)
    """Of the power law by which channels are companded: 1 for those that are not."""
    spectrum: tuple[float, ...] = ()
    """Standard deviation of each coefficient of the orthonormal DCT-II of z-scored examples; () = not filtered."""
    columns: int = 0
    """Columns before the empty ones."""
    empty: tuple[float, ...] = ()
    """e(x) in the empty columns of each channel, where x0 is 0, (C,); () = there are none."""

    def __post_init__(self) -> None:
        mean, *others = map(torch.tensor, (self.mean, self.std, self.exponent, self.spectrum))
        positive = (each.isfinite().all() and (each > 0).all() for each in others)
        if not (mean.shape == others[0].shape and mean.isfinite().all() and all(positive)):
            raise ValueError("mean and std have to be of one shape, all values finite, and all but means above zero")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The same from JSON, which turns tuples into lists; raises ValueError if they are not numbers in rows."""
        rows = {name: tuple(map(_numbers, fields[name])) for name in ("mean", "std")}
        others = {name: _numbers(fields.get(name, ())) for name in ("spectrum", "empty")}
        exponent, columns = _numbers(fields["exponent"]), int(fields.get("columns", 0))
        return cls(mean=rows["mean"], std=rows["std"], exponent=exponent, columns=columns, **others)

    def normalised(self, x: Tensor) -> Tensor:
        """The x0 of examples."""
        mean, std, _ = _tensors(self, x.shape[-1], x.dtype, x.device)
        return self.filtered((self.expanded(x) - mean) / std)

    def restored(self, x0: Tensor) -> Tensor:
        """The examples of x0, the inverse of `normalised`."""
        mean, std, exponent = _tensors(self, x0.shape[-1], x0.dtype, x0.device)
        x = self.unfiltered(x0) * std + mean
        return x if self._is_linear else x.sign() * x.abs() ** exponent

    def expanded(self, x: Tensor) -> Tensor:
        """e(x), before mean and standard deviation are used."""
        if self._is_linear:
            return x
        *_, exponent = _tensors(self, x.shape[-1], x.dtype, x.device)
        return x.sign() * x.abs() ** (1 / exponent)

    def filtered(self, x: Tensor) -> Tensor:
        """w(x)."""
        return x @ _filters(self.spectrum, x.dtype, x.device)[0] if self.spectrum else x

    def unfiltered(self, x: Tensor) -> Tensor:
        """The inverse of w; of white noise, it makes pink noise."""
        return x @ _filters(self.spectrum, x.dtype, x.device)[1] if self.spectrum else x

    @property
    def _is_linear(self) -> bool:
        return all(each == 1 for each in self.exponent)


def _numbers(values: list[Any]) -> tuple[float, ...]:
    if not all(isinstance(value, int | float) for value in values):
        raise ValueError("mean, std and exponent have to be numbers")
    return tuple(map(float, values))


UNCHANGED = Normalisation()
"""Of examples that are x0 themselves."""


def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II of signals x (*, size) is x @ cosines(size); (size, size) float64."""
    time, number = torch.arange(size, dtype=torch.float64)[:, None] + 0.5, torch.arange(size)
    basis = (torch.pi / size * time * number).cos() * (2 / size) ** 0.5
    basis[:, 0] /= 2**0.5
    return basis


@lru_cache(maxsize=16)
def _tensors(
    normalisation: Normalisation, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation (C or 1, H or 1, 1 or W), and exponent (C or 1, 1, 1)."""
    fields = normalisation.mean, normalisation.std, normalisation.exponent
    mean, std, exponent = (torch.tensor(each, dtype=dtype, device=device)[..., None] for each in fields)
    if normalisation.empty:
        filled = torch.arange(width, device=device) < normalisation.columns
        empty = torch.tensor(normalisation.empty, dtype=dtype, device=device)[:, None, None]
        mean, std = torch.where(filled, mean, empty), torch.where(filled, std, 1.0)
    return mean, std, exponent[..., None]


@lru_cache(maxsize=4)
def _filters(spectrum: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The symmetric matrices of w and of its inverse, (W, W): covariance ** (-1/4) and ** (1/4), x0 of mean variance 1.

    The covariance is Toeplitz: a cosine transform mirrors signals at their ends, where noise would be stronger.
    """
    size, basis = len(spectrum), cosines(len(spectrum))
    mirrored = basis * torch.tensor(spectrum, dtype=torch.float64).square() @ basis.T
    lags = torch.stack([mirrored.diagonal(lag).sum() / size for lag in range(size)])
    time = torch.arange(size)
    variances, vectors = torch.linalg.eigh(lags[(time[:, None] - time).abs()])
    variances = variances.clamp(min=1e-9) / variances.mean()
    left = variances.sqrt()  # the variances of x0, up to their mean
    gains = (left.mean() * left).rsqrt()
    there, back = (vectors * each @ vectors.T for each in (gains, 1 / gains))
    return there.to(device, dtype), back.to(device, dtype)
