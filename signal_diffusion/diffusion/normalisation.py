"""How examples become the x0 of diffusion, whose noise is standard normal: expanded, then z-scored.

Without it, noise drowns what is small: the weak rhythms of a spectrum, or all of a signal whose range an artefact sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["UNCHANGED", "Normalisation"]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """x0 = (e(x) - mean) / std of examples x (*, C, H, W), with e(x) = sign(x) · |x| ** (1 / exponent).

    Mean and standard deviation are (C or 1, H or 1), of each row or the same for all; the exponent (C or 1).

    Raises ValueError if they do not fit together, or if exponents or standard deviations are not above zero.
    """

    mean: tuple[tuple[float, ...], ...] = ((0.0,),)
    std: tuple[tuple[float, ...], ...] = ((1.0,),)
    exponent: tuple[float, ...] = (1.0,)
    """Of the power law by which channels are companded: 1 for those that are not."""

    def __post_init__(self) -> None:
        mean, std, exponent = map(torch.tensor, (self.mean, self.std, self.exponent))
        positive = (each.isfinite().all() and (each > 0).all() for each in (std, exponent))
        if not (mean.shape == std.shape and mean.isfinite().all() and all(positive)):
            raise ValueError("mean and std have to be of the same shape and finite, std and exponent above zero")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The same from JSON, which turns tuples into lists."""
        rows = {name: tuple(map(tuple, fields[name])) for name in ("mean", "std")}
        return cls(**rows, exponent=tuple(fields["exponent"]))

    def normalised(self, x: Tensor) -> Tensor:
        """The x0 of examples."""
        mean, std, _ = _tensors(self, x.dtype, x.device)
        return (self.expanded(x) - mean) / std

    def restored(self, x0: Tensor) -> Tensor:
        """The examples of x0, the inverse of `normalised`."""
        mean, std, exponent = _tensors(self, x0.dtype, x0.device)
        x = x0 * std + mean
        return x if self._is_linear else x.sign() * x.abs() ** exponent

    def expanded(self, x: Tensor) -> Tensor:
        """e(x), before mean and standard deviation are used."""
        if self._is_linear:
            return x
        *_, exponent = _tensors(self, x.dtype, x.device)
        return x.sign() * x.abs() ** (1 / exponent)

    @property
    def _is_linear(self) -> bool:
        return all(each == 1 for each in self.exponent)


UNCHANGED = Normalisation()
"""Of examples that are x0 themselves."""


@lru_cache(maxsize=16)
def _tensors(normalisation: Normalisation, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation (C or 1, H or 1, 1), and exponent (C or 1, 1, 1)."""
    fields = normalisation.mean, normalisation.std, normalisation.exponent
    mean, std, exponent = (torch.tensor(each, dtype=dtype, device=device)[..., None] for each in fields)
    return mean, std, exponent[..., None]
