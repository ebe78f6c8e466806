"""Samplers: from noise to data along a grid of times, for every method and prediction.

A sampler sees what a network believes x0 and ε to be at x_t, and the schedule (α, σ); never the network, nor the name
of its prediction. The deterministic ones solve the probability-flow ODE of x_t = α·x0 + σ·ε,

    dx = x0·dα + ε·dσ

which has no singularity at t = 0 or 1, whatever the schedule (Song et al., https://arxiv.org/abs/2011.13456). The
stochastic ones put fresh noise in place of some of ε, of the same variance, which leaves the distribution of x alone.

Diffusers has most of them too, each for its own noise schedules, timesteps and predictions, and with one generator for
a whole batch. A step here is a few lines for any (α, σ); where both are defined, tests hold ours to theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from signal_diffusion.diffusion.schedules import Schedule
from signal_diffusion.randomness import noise_for

__all__ = ["SAMPLERS", "Denoise", "Sampler", "Step", "ddim"]


@dataclass(frozen=True)
class Step:
    """From the time t to the earlier s."""

    schedule: Schedule
    t: float
    s: float
    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float
    """0 in the last step, and in no other."""
    draw: Callable[[], Tensor]
    """Fresh standard normal noise of x's shape, from each example's own generator."""
    before: tuple[float, Tensor] | None
    """Of the step before: log(α/σ) where it began, and what x0 was believed to be there."""


Denoise = Callable[[Tensor, Tensor, Step], tuple[Tensor, Tensor]]
"""(x_t (B, …), t (B,), step) → (x0, ε) as the network has them, float32, guidance folded in.

t is where the sampler asks, anywhere from `step.t` to `step.s`; what holds for a whole step is decided by the step.
"""


@dataclass(frozen=True)
class Sampler:
    """Turns noise into x0, step by step."""

    advance: Callable[[Denoise, Tensor, Step], tuple[Tensor, Tensor]]
    """(denoise, x_t, step) → x_s, and the x0 that the network believed in at x_t."""
    stochastic: bool = False
    """Draws noise on the way."""

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
        """x0 of the shape of `noise` (B, …), in float32 or better.

        Parameters
        ----------
        times
            A step is taken from each of them to the next, (N + 1,), float64 and falling to 0.
        generators
            One per example, which a stochastic sampler draws from, so that an example does not depend on those
            around it.
        on_step
            Called as `on_step(i, x, x0)` after step i, counted from 0, with where it has come to, and the x0 that the
            network believed in when the step began.
        """
        if self.stochastic and generators is None:
            raise ValueError("a stochastic sampler draws noise: expected one generator per example")
        x = noise.to(torch.promote_types(noise.dtype, torch.float32))
        shape, before = x.shape[1:], None
        knots = zip(times.tolist(), *(values.tolist() for values in schedule(times)), strict=True)
        for i, ((t, alpha_t, sigma_t), (s, alpha_s, sigma_s)) in enumerate(pairwise(knots)):
            step = Step(
                schedule,
                t,
                s,
                alpha_t,
                sigma_t,
                alpha_s,
                sigma_s,
                draw=lambda: noise_for(generators or (), shape),
                before=before,
            )
            x, x0 = self.advance(denoise, x, step)
            before = _log_ratio(alpha_t, sigma_t), x0
            if on_step is not None:
                on_step(i, x, x0)
        return x


def ddim(eta: float = 0.0) -> Sampler:
    """DDIM, from deterministic (η = 0) to ancestral (η = 1).

    x_s = α_s·x0 + √(σ_s² − τ²)·ε + τ·z with τ = η·(σ_s/σ_t)·√(σ_t² − (σ_s·α_t/α_s)²), z ~ N(0, 1)

    Song et al., https://arxiv.org/abs/2010.02502, equation 12, for any α and σ; η = 1 is DDPM's own (Ho et al.,
    https://arxiv.org/abs/2006.11239, algorithm 2).
    """

    def advance(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        x0, eps = _ask(denoise, x, step.t, step)
        kept = step.sigma_s * step.alpha_t / step.alpha_s
        tau = eta * step.sigma_s / step.sigma_t * max(step.sigma_t**2 - kept**2, 0.0) ** 0.5
        return _renoised(x0, eps, step, tau), x0

    return Sampler(advance, stochastic=eta > 0)


def _ask(denoise: Denoise, x: Tensor, t: float, step: Step) -> tuple[Tensor, Tensor]:
    """What the network believes x0 and ε to be at x_t."""
    return denoise(x, torch.full((len(x),), t, dtype=x.dtype, device=x.device), step)


def _log_ratio(alpha: float, sigma: float) -> float:
    """log(α/σ), half the log-SNR; −∞ where nothing is left of the data."""
    return math.log(alpha / sigma) if alpha > 0 else -math.inf


def _renoised(x0: Tensor, eps: Tensor, step: Step, tau: float) -> Tensor:
    """x_s = α_s·x0 + √(σ_s² − τ²)·ε + τ·z, z ~ N(0, 1): of the noise in x_s, τ² is fresh."""
    x = step.alpha_s * x0 + max(step.sigma_s**2 - tau**2, 0.0) ** 0.5 * eps
    return x + tau * step.draw().to(x) if tau else x


def _euler(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """x_s = α_s·x0 + σ_s·ε, the first-order step of the probability-flow ODE.

    On the straight path of a rectified flow it is Euler's step of x over t, x_t + (s − t)·(ε − x0); in general, of
    x/α over σ/α. It is DDIM with η = 0 (https://arxiv.org/abs/2010.02502, section 4.3) under the name that flows give
    it.
    """
    x0, eps = _ask(denoise, x, step.t, step)
    return _renoised(x0, eps, step, 0.0), x0


def _euler_stochastic(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """A step of the reverse SDE whose noise is w = σ·dσ/dt, on a flow w = t.

    The SDE dx = x0·dα + ε·dσ + (w/2σ)·ε·dt + √w·dz̄, backwards in t, has the marginals of the ODE for every w ≥ 0. With
    x0 held for the step, the share of the noise that is still the old is exp(−∫ w/σ² dt) = σ_s/σ_t of its variance:

    x_s = α_s·x0 + √(σ_s² − τ²)·ε + τ·z with τ² = σ_s²·(1 − σ_s/σ_t), z ~ N(0, 1)

    To first order in the step that is Euler–Maruyama's, but the noise in x_s has the variance σ_s² exactly.
    w of the ancestral sampler is the forward process's, on a flow 2t/(1 − t): more, and infinite at t = 1.

    Ma et al., https://arxiv.org/abs/2401.08740, equation 4 and their w = σ; Karras et al.,
    https://arxiv.org/abs/2206.00364, equation 6, with β = σ̇/2σ.
    """
    x0, eps = _ask(denoise, x, step.t, step)
    return _renoised(x0, eps, step, step.sigma_s * (1 - step.sigma_s / step.sigma_t) ** 0.5), x0


def _heun(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """x_s = x_t + ½·(x0_t + x0_s)·(α_s − α_t) + ½·(ε_t + ε_s)·(σ_s − σ_t), the second at the end of Euler's step.

    On a flow that is the textbook's trapezoid of x over t. At t = 0, where a network says nothing about ε, there is no
    second: the last step is Euler's (Karras et al., https://arxiv.org/abs/2206.00364, algorithm 1).
    """
    x0, eps = _ask(denoise, x, step.t, step)
    end = _renoised(x0, eps, step, 0.0)
    if step.sigma_s == 0:
        return end, x0
    x0_end, eps_end = _ask(denoise, end, step.s, step)
    by_alpha, by_sigma = (step.alpha_s - step.alpha_t) / 2, (step.sigma_s - step.sigma_t) / 2
    return x + by_alpha * (x0 + x0_end) + by_sigma * (eps + eps_end), x0


CLASSICAL = ((0.0, 1 / 6), (1 / 2, 1 / 3), (1 / 2, 1 / 3), (1.0, 1 / 6))
"""(node, weight) of the stages of the classical fourth-order Runge–Kutta rule; each starts from the slope before it."""

RALSTON = ((0.0, 2 / 9), (1 / 2, 1 / 3), (3 / 4, 4 / 9))
"""The same of Ralston's third-order rule, which does not ask at the end of the step."""


def _rk4(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Runge and Kutta's step over the angle φ = atan2(σ, α), in which the ODE is as smooth as the network is.

    y = x/√(α² + σ²) has y = cos φ·x0 + sin φ·ε and dy/dφ = cos φ·ε − sin φ·x0, for every schedule, α = 0 included. The
    last step is of third order, and the error h⁴ of that one step leaves the whole at fourth.
    """
    start, end = math.atan2(step.sigma_t, step.alpha_t), math.atan2(step.sigma_s, step.alpha_s)
    stages = RALSTON if step.sigma_s == 0 else CLASSICAL
    angles = torch.tensor([start + node * (end - start) for node, _ in stages], dtype=torch.float64)
    times = step.schedule.time_of(angles)
    norms = torch.hypot(*step.schedule(times))
    y = x / math.hypot(step.alpha_t, step.sigma_t)
    slope, total, believed = torch.zeros_like(y), torch.zeros_like(y), []
    knots = zip(stages, angles.tolist(), times.tolist(), norms.tolist(), strict=True)
    for (node, weight), angle, t, norm in knots:
        x0, eps = _ask(denoise, norm * (y + node * (end - start) * slope), t, step)
        slope = math.cos(angle) * eps - math.sin(angle) * x0
        total = total + weight * slope
        believed.append(x0)
    return math.hypot(step.alpha_s, step.sigma_s) * (y + (end - start) * total), believed[0]


def _dpm_plus_plus_2m(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """x_s = (σ_s/σ_t)·x_t + (α_s − α_t·σ_s/σ_t)·D, D = x0_t + (x0_t − x0_r)/2 · (λ_s − λ_t)/(λ_t − λ_r).

    λ = log(α/σ), and r is where the step before began: x0 is taken to be linear in λ. The first step, the last (to
    λ = ∞) and one after λ = −∞ take D = x0_t, which is Euler's. Where x0 jumps between r and t, as at an end of a
    guidance interval, that step is of first order, and the whole with it.

    Lu et al., https://arxiv.org/abs/2211.01095, algorithm 2
    """
    x0, _ = _ask(denoise, x, step.t, step)
    data = x0
    if step.before is not None and step.sigma_s > 0:
        earlier, x0_earlier = step.before
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
