"""Samplers: from noise to data along a grid of times, for every method and prediction.

A sampler sees the network's estimates of x0 and ε at x_t, and the schedule (α, σ); never the network or its kind of
prediction. Deterministic samplers solve the probability-flow ODE of x_t = α·x0 + σ·ε,

    dx = x0·dα + ε·dσ

which has no singularity at t = 0 or 1, whatever the schedule (Song et al., https://arxiv.org/abs/2011.13456).
Stochastic ones replace part of ε by fresh noise of the same variance, which does not change the distribution of x.

diffusers has most of them too, each for its own noise schedules, timesteps and predictions, and with one generator for
a whole batch. Here a step is a few lines for any (α, σ). Where both are defined, tests compare ours to theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from signal_diffusion.diffusion.schedules import Schedule
from signal_diffusion.randomness import noise_for

__all__ = ["SAMPLERS", "Denoise", "Sampler", "Step", "ddim", "steps_of"]


@dataclass(frozen=True)
class Step:
    """A step from the time t to the earlier time s."""

    schedule: Schedule
    t: float
    s: float
    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float
    """0 only in the last step."""
    draw: Callable[[], Tensor]
    """Fresh standard normal noise of x's shape, from each example's own generator."""
    previous: tuple[float, Tensor] | None = None
    """log(α/σ) and the estimate of x0 at the start of the previous step; None in the first step."""


Denoise = Callable[[Tensor, Tensor, Step], tuple[Tensor, Tensor]]
"""(x_t (B, …), t (B,), step) → the network's estimates (x0, ε), float32, with guidance applied.

t is the time at which the sampler evaluates, anywhere from `step.t` to `step.s`; a decision for a whole step, such as
whether to guide, must depend on `step` only.
"""


@dataclass(frozen=True)
class Sampler:
    """Turns noise into x0, step by step."""

    advance: Callable[[Denoise, Tensor, Step], tuple[Tensor, Tensor]]
    """(denoise, x_t, step) → x_s, and the estimate of x0 at x_t."""
    stochastic: bool = False
    """Whether it adds fresh noise during sampling."""

    @torch.no_grad()
    def __call__(
        self,
        denoise: Denoise,
        schedule: Schedule,
        noise: Tensor,
        times: Tensor,
        generators: Sequence[torch.Generator] | None = None,
        *,
        on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Sample x0 of the shape of `noise` (B, …), in float32 or better.

        Parameters
        ----------
        times
            The starts and ends of the N steps, (N + 1,), float64, decreasing to 0.
        generators
            One per example, which a stochastic sampler draws from, so that an example does not depend on the rest of
            the batch.
        on_step
            Called as `on_step(i, x, x0)` after step i, counted from 0, with x at the step's end and the estimate of x0
            at its start.
        """
        if self.stochastic and generators is None:
            raise ValueError("a stochastic sampler draws noise: expected one generator per example")
        x = noise.to(torch.promote_types(noise.dtype, torch.float32))
        shape, previous = x.shape[1:], None
        for i, step in enumerate(steps_of(schedule, times, lambda: noise_for(generators or (), shape))):
            x, x0 = self.advance(denoise, x, replace(step, previous=previous))
            previous = _log_ratio(step.alpha_t, step.sigma_t), x0
            if on_step is not None:
                on_step(i, x, x0)
        return x


def steps_of(schedule: Schedule, times: Tensor, draw: Callable[[], Tensor]) -> Iterator[Step]:
    """The steps between the times, each without a previous one."""
    knots = zip(times.tolist(), *(values.tolist() for values in schedule(times)), strict=True)
    for (t, alpha_t, sigma_t), (s, alpha_s, sigma_s) in pairwise(knots):
        yield Step(schedule, t, s, alpha_t, sigma_t, alpha_s, sigma_s, draw)


def ddim(eta: float = 0.0) -> Sampler:
    """DDIM, from deterministic (η = 0) to ancestral (η = 1).

    x_s = α_s·x0 + √(σ_s² − τ²)·ε + τ·z with τ = η·(σ_s/σ_t)·√(σ_t² − (σ_s·α_t/α_s)²), z ~ N(0, 1)

    Song et al., https://arxiv.org/abs/2010.02502, equation 12, for any α and σ; η = 1 is the sampler of DDPM (Ho et
    al., https://arxiv.org/abs/2006.11239, algorithm 2).
    """

    def advance(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        x0, eps = _estimate(denoise, x, step.t, step)
        kept = step.sigma_s * step.alpha_t / step.alpha_s
        tau = eta * step.sigma_s / step.sigma_t * max(step.sigma_t**2 - kept**2, 0.0) ** 0.5
        return _renoised(x0, eps, step, tau), x0

    return Sampler(advance, stochastic=eta > 0)


def _estimate(denoise: Denoise, x: Tensor, t: float, step: Step) -> tuple[Tensor, Tensor]:
    """The estimates of x0 and ε at x_t."""
    return denoise(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device), step)


def _log_ratio(alpha: float, sigma: float) -> float:
    """log(α/σ), half the log-SNR; −∞ at pure noise."""
    return math.log(alpha / sigma) if alpha > 0 else -math.inf


def _renoised(x0: Tensor, eps: Tensor, step: Step, tau: float) -> Tensor:
    """x_s = α_s·x0 + √(σ_s² − τ²)·ε + τ·z, z ~ N(0, 1): the variance of the fresh noise in x_s is τ²."""
    x = step.alpha_s * x0 + max(step.sigma_s**2 - tau**2, 0.0) ** 0.5 * eps
    return x + tau * step.draw().to(x) if tau else x


def _euler(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """x_s = α_s·x0 + σ_s·ε, the first-order step of the probability-flow ODE.

    On the straight path of a rectified flow it is Euler's step of x over t, x_t + (s − t)·(ε − x0); in general, of
    x/α over σ/α. It is DDIM with η = 0 (https://arxiv.org/abs/2010.02502, section 4.3) by its name for flows.
    """
    x0, eps = _estimate(denoise, x, step.t, step)
    return _renoised(x0, eps, step, 0.0), x0


def _euler_stochastic(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """A step of the reverse SDE with the noise w = σ·dσ/dt, which is t on a flow.

    The SDE dx = x0·dα + ε·dσ + (w/2σ)·ε·dt + √w·dz̄, backwards in t, has the marginals of the ODE for every w ≥ 0. If
    x0 is constant during the step, the old noise is left with exp(−∫ w/σ² dt) = σ_s/σ_t of the noise variance:

    x_s = α_s·x0 + √(σ_s² − τ²)·ε + τ·z with τ² = σ_s²·(1 − σ_s/σ_t), z ~ N(0, 1)

    To first order in the step this is Euler–Maruyama's, but the noise in x_s has exactly the variance σ_s².
    The ancestral sampler has the forward process's w, on a flow 2t/(1 − t), which is larger, and infinite at t = 1.

    Ma et al., https://arxiv.org/abs/2401.08740, equation 4 and their w = σ; Karras et al.,
    https://arxiv.org/abs/2206.00364, equation 6, with β = σ̇/2σ.
    """
    x0, eps = _estimate(denoise, x, step.t, step)
    return _renoised(x0, eps, step, step.sigma_s * (1 - step.sigma_s / step.sigma_t) ** 0.5), x0


def _heun(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """x_s = x_t + ½·(x0_t + x0_s)·(α_s − α_t) + ½·(ε_t + ε_s)·(σ_s − σ_t), with x0_s, ε_s at the end of Euler's step.

    On a flow this is the textbook's trapezoidal rule for x over t. The last step is Euler's, because at t = 0 the
    network has no information about ε (Karras et al., https://arxiv.org/abs/2206.00364, algorithm 1).
    """
    x0, eps = _estimate(denoise, x, step.t, step)
    end = _renoised(x0, eps, step, 0.0)
    if step.sigma_s == 0:
        return end, x0
    x0_end, eps_end = _estimate(denoise, end, step.s, step)
    by_alpha, by_sigma = (step.alpha_s - step.alpha_t) / 2, (step.sigma_s - step.sigma_t) / 2
    return x + by_alpha * (x0 + x0_end) + by_sigma * (eps + eps_end), x0


CLASSICAL = ((0.0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1.0, 1 / 6))
"""(node, weight) of the stages of the classical fourth-order Runge–Kutta rule; each uses the previous stage's slope."""

RALSTON = ((0.0, 2 / 9), (1 / 2, 1 / 3), (3 / 4, 4 / 9))
"""The same for Ralston's third-order rule, which does not evaluate at the end of the step."""


def _rk4(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """A Runge–Kutta step over the angle φ = atan2(σ, α), in which the ODE is as smooth as the network.

    y = x/√(α² + σ²) has y = cos φ·x0 + sin φ·ε and dy/dφ = cos φ·ε − sin φ·x0, for every schedule, also at α = 0. The
    last step is of third order; its error is h⁴, and as it is a single step, the whole stays of fourth order.
    """
    start, end = math.atan2(step.sigma_t, step.alpha_t), math.atan2(step.sigma_s, step.alpha_s)
    stages = RALSTON if step.sigma_s == 0 else CLASSICAL
    angles = torch.tensor([start + node * (end - start) for node, _ in stages], dtype=torch.float64)
    times = step.schedule.time_of(angles)
    norms = torch.hypot(*step.schedule(times))
    y = x / math.hypot(step.alpha_t, step.sigma_t)
    slope, total, estimates = torch.zeros_like(y), torch.zeros_like(y), []
    knots = zip(stages, angles.tolist(), times.tolist(), norms.tolist(), strict=True)
    for (node, weight), angle, t, norm in knots:
        x0, eps = _estimate(denoise, norm * (y + node * (end - start) * slope), t, step)
        slope = math.cos(angle) * eps - math.sin(angle) * x0
        total = total + weight * slope
        estimates.append(x0)
    return math.hypot(step.alpha_s, step.sigma_s) * (y + (end - start) * total), estimates[0]


def _dpm_plus_plus_2m(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """x_s = (σ_s/σ_t)·x_t + (α_s − α_t·σ_s/σ_t)·D, D = x0_t + (x0_t − x0_r)/2 · (λ_s − λ_t)/(λ_t − λ_r).

    λ = log(α/σ), r is the start of the previous step, and x0 is assumed to be linear in λ. The first step, the last (to
    λ = ∞) and a step after λ = −∞ have D = x0_t, which is Euler's. If x0 jumps between r and t, as at an end of a
    guidance interval, that step is of first order, and so is the whole.

    Lu et al., https://arxiv.org/abs/2211.01095, algorithm 2
    """
    x0, _ = _estimate(denoise, x, step.t, step)
    data = x0
    if step.previous is not None and step.sigma_s > 0:
        earlier, x0_earlier = step.previous
        now = _log_ratio(step.alpha_t, step.sigma_t)
        data = x0 + (_log_ratio(step.alpha_s, step.sigma_s) - now) / (now - earlier) / 2 * (x0 - x0_earlier)
    kept = step.sigma_s / step.sigma_t
    return kept * x + (step.alpha_s - step.alpha_t * kept) * data, x0


SAMPLERS: dict[str, Sampler] = {
    "ddpm": ddim(eta=1.0),
    "ddim": ddim(),
    "euler": Sampler(_euler),
    "euler-stochastic": Sampler(_euler_stochastic, stochastic=True),
    "heun": Sampler(_heun),
    "rk4": Sampler(_rk4),
    "dpm++2m": Sampler(_dpm_plus_plus_2m),
}
