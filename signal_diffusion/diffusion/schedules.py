"""Noise schedules, maps t ∈ [0, 1] → (α, σ) so that x_t = α·x0 + σ·ε: data at t = 0, noise at t = 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol

import torch
from torch import Tensor

from signal_diffusion.errors import UserError

__all__ = ["BETA_SCHEDULES", "BetaSchedule", "LinearSchedule", "Schedule"]


class Schedule(Protocol):
    """A map t → (α, σ), both of t's shape, in float32 or better."""

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ at the times t."""

    def time_of(self, angle: Tensor) -> Tensor:
        """The times, in float64, at which atan2(σ, α) is `angle` ∈ [0, π/2]: the inverse of the schedule."""

    @property
    def terminal_alpha(self) -> float:
        """α at t = 1. Sampling starts from pure noise, so it has to be near 0."""

    @property
    def num_timesteps(self) -> int | None:
        """T of a schedule that is trained only at the times 1/T, 2/T … 1; None for a continuous one."""


@dataclass(frozen=True)
class LinearSchedule:
    """The straight line from data to noise, α = 1 − t and σ = t (Liu et al., https://arxiv.org/abs/2209.03003)."""

    terminal_alpha: float = 0.0
    num_timesteps: int | None = None

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ at the times t."""
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        return 1 - t, t

    def time_of(self, angle: Tensor) -> Tensor:
        """The times at which atan2(σ, α) is `angle` φ: sin φ/(sin φ + cos φ)."""
        angle = angle.double()
        return angle.sin() / (angle.sin() + angle.cos())


@dataclass(frozen=True, kw_only=True)
class BetaSchedule:
    """The discrete variance-preserving schedule of DDPM, ᾱ_i = Π_{j≤i} (1 − β_j), α = √ᾱ, σ = √(1 − ᾱ).

    Step i of T (counted from 0) is at t = (i + 1)/T. Between two steps the angle φ = atan2(σ, α) is
    interpolated linearly, so that α² + σ² = 1 everywhere.

    Ho et al., https://arxiv.org/abs/2006.11239
    """

    name: str = "cosine"
    num_timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.name not in BETA_SCHEDULES:
            raise UserError(f"beta_schedule {self.name!r} is unknown: expected one of {', '.join(BETA_SCHEDULES)}")
        if self.num_timesteps < 2:
            raise UserError(f"num_timesteps = {self.num_timesteps}: expected 2 or more")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise UserError(
                f"beta_start = {self.beta_start}, beta_end = {self.beta_end}: expected 0 < beta_start ≤ beta_end < 1"
            )

    def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ at the times t."""
        t = t.to(torch.promote_types(t.dtype, torch.float32))
        angles = _angles(self, t.device, t.dtype)
        position = t.clamp(0, 1) * self.num_timesteps
        below = position.long().clamp(max=self.num_timesteps - 1)
        to_data, to_noise = torch.lerp(angles[:, below], angles[:, below + 1], position - below)
        # the sines of both angles, instead of the cosine of one, are exact if α or σ is small or zero
        return to_data.sin(), to_noise.sin()

    def time_of(self, angle: Tensor) -> Tensor:
        """The times at which atan2(σ, α) is `angle`; 1 for angles beyond the last step's."""
        angles = _angles(self, angle.device, torch.float64)[1]
        angle = angle.double().clamp(max=angles[-1])
        above = torch.searchsorted(angles, angle).clamp(min=1)
        below = above - 1
        return (below + (angle - angles[below]) / (angles[above] - angles[below])) / self.num_timesteps

    @cached_property
    def terminal_alpha(self) -> float:
        """α at t = 1."""
        return float(self.alphas()[-1])

    def betas(self) -> Tensor:
        """β of the steps, before any rescaling to zero terminal SNR, (T,) float64."""
        return BETA_SCHEDULES[self.name](self.num_timesteps, self.beta_start, self.beta_end)

    def alphas(self) -> Tensor:
        """α = √ᾱ of the steps, (T,) float64.

        With `zero_terminal_snr` shifted and scaled so that the last is 0 and the first unchanged (Lin et al.,
        https://arxiv.org/abs/2305.08891, algorithm 1).
        """
        alphas = (0.5 * torch.log1p(-self.betas()).cumsum(0)).exp()
        if self.zero_terminal_snr:
            alphas = (alphas - alphas[-1]) * (alphas[0] / (alphas[0] - alphas[-1]))
        return alphas


def _linear(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    return torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float64)


def _quadratic(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    return _linear(num_timesteps, math.sqrt(beta_start), math.sqrt(beta_end)).square()


def _sigmoid(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    return beta_start + (beta_end - beta_start) * _linear(num_timesteps, -6, 6).sigmoid()


def _cosine(num_timesteps: int, beta_start: float, beta_end: float) -> Tensor:
    """ᾱ(t) = cos²(π/2 · (t + s)/(1 + s)), s = 0.008 and β ≤ 0.999; beta_start and beta_end have no effect.

    Nichol & Dhariwal, https://arxiv.org/abs/2102.09672
    """
    t = torch.linspace(0, 1, num_timesteps + 1, dtype=torch.float64)
    alpha_bar = (math.pi / 2 * (t + 0.008) / 1.008).cos().square()
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


BETA_SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": _linear,
    "cosine": _cosine,
    "quadratic": _quadratic,
    "sigmoid": _sigmoid,
}


@cache
def _angles(schedule: BetaSchedule, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Angles with the sines α and σ at t = 0, 1/T … 1, (2, T + 1); cached, as a copy per call would make CUDA wait."""
    alphas = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alphas()])
    sigmas = ((1 - alphas) * (1 + alphas)).sqrt()
    return torch.stack([torch.atan2(alphas, sigmas), torch.atan2(sigmas, alphas)]).to(device, dtype)
