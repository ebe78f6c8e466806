"""Guidance: how strongly a sample follows its conditions.

The scale w always means u + w·(c − u), where c is the conditional network's estimate and u the estimate it is guided
away from. w = 1 is only the conditional network (`generate` then evaluates nothing else); w = 0 is u (for
`rectified_cfg_plus_plus`, only in the limit of small steps); w > 1 exaggerates the difference between c and u.
Predictions are linear in (x0, ε), so x0 and ε are guided, and the kind of prediction makes no difference.

u is the same network without conditions (classifier-free guidance, Ho & Salimans, https://arxiv.org/abs/2207.12598,
whose w is ours minus 1), or a weaker network under the same conditions (autoguidance, Karras et al.,
https://arxiv.org/abs/2406.02507).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from signal_diffusion.diffusion.methods import Method
from signal_diffusion.diffusion.samplers import Denoise, Step
from signal_diffusion.diffusion.schedules import Schedule

__all__ = ["EVERYWHERE", "SMALLEST", "Droppable", "Network", "at_time", "guided", "rectified_cfg_plus_plus", "unguided"]

EVERYWHERE = (0.0, 1.0)
"""The interval of all times."""

SMALLEST = 1e-6
"""Floor of σ as a divisor."""
ROUNDING = 1e-6
"""Tolerance within which a time of a grid counts as an end of an interval."""


class Droppable(Protocol):
    """Conditions of a batch that can be set to their null."""

    def drop(self, mask: Tensor) -> Self:
        """A copy with the null in the rows of `mask`, (B,) bool."""


C = TypeVar("C", bound=Droppable)
Network = Callable[[Tensor, Tensor, C], Tensor]
"""(x_t, t, conditions) → prediction."""


def unguided(model: Network[C], method: Method, cond: C) -> Denoise:
    """The network's estimates of x0 and ε under `cond`."""
    return lambda xt, t, step: method.split(xt, model(xt, t, cond), t)


def guided(
    c: Denoise,
    u: Denoise,
    schedule: Schedule,
    scale: float,
    *,
    interval: tuple[float, float] = EVERYWHERE,
    rescale: float = 0.0,
) -> Denoise:
    """The guided estimates u + w·(c − u), of x0 and of ε.

    Parameters
    ----------
    c, u
        The estimates to guide, and those to guide away from.
    scale
        w ≥ 0. At 1 the result is `c` up to rounding; use `c` itself for exactly that, in one pass.
    interval
        (low, high]: a step that starts at t is guided if low < t ≤ high; otherwise only `c` is evaluated. A whole step
        is guided or not, which preserves the sampler's order. If `low` and `high` are times of the grid, guidance acts
        on exactly that interval; (0, 1] is everywhere.
        Kynkäänniemi et al., https://arxiv.org/abs/2404.07724, with our t for their σ
    rescale
        φ ∈ [0, 1]: x0 becomes φ·x0·std(x0 of c)/std(x0) + (1 − φ)·x0, with the standard deviations over all values of
        an example, and ε follows from x_t and x0.
        Lin et al., https://arxiv.org/abs/2305.08891, section 3.4, who scale the network's output (there v) instead of
        x0, so that their result depends on the kind of prediction
    """

    def denoise(xt: Tensor, t: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        conditional = c(xt, t, step)
        if not _inside(interval, step):
            return conditional
        x0, eps = (to + scale * (of - to) for of, to in zip(conditional, u(xt, t, step), strict=True))
        return _rescaled(x0, eps, conditional[0], at_time(schedule, t, xt), rescale) if rescale else (x0, eps)

    return denoise


def rectified_cfg_plus_plus(
    c: Denoise,
    u: Denoise,
    schedule: Schedule,
    scale: float,
    *,
    interval: tuple[float, float] = EVERYWHERE,
) -> Denoise:
    """Guide a flow by c and u half a conditional step ahead; for `euler`, which evaluates once per step.

    With v = ε − x0, a step from t to s and m = (t + s)/2 between them:

        x_m = x_t + (m − t)·v_c(x_t, t),   v = v_c(x_t, t) + (w − 1)·(v_c(x_m, m) − v_u(x_m, m))

    It takes three passes. In the limit of small steps it is u + w·(c − u). Otherwise w = 1 is still c, but w = 0 is
    not u.

    Saini et al., https://arxiv.org/abs/2510.07631, algorithm 1, without its optional noise, and with w − 1 in place of
    its λ_max·(1 − t)^γ: use `interval` to weaken guidance towards either end. (The authors' code has a constant there
    too, and goes a whole step ahead.)

    Parameters
    ----------
    c, u, scale, interval
        As in `guided`.
    """

    def denoise(xt: Tensor, t: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        x0, eps = c(xt, t, step)
        if not _inside(interval, step):
            return x0, eps
        middle = (t + step.s) / 2
        alpha, sigma = at_time(schedule, middle, xt)
        ahead = alpha * x0 + sigma * eps
        (x0_c, eps_c), (x0_u, eps_u) = c(ahead, middle, step), u(ahead, middle, step)
        push = (scale - 1) * ((eps_c - x0_c) - (eps_u - x0_u))
        alpha, sigma = at_time(schedule, t, xt)
        return x0 - sigma * push, eps + alpha * push  # the pair of x_t whose ε − x0 is v, since α + σ = 1

    return denoise


def _inside(interval: tuple[float, float], step: Step) -> bool:
    """Whether a step is guided, which depends on the time it starts at."""
    low, high = interval
    return low + ROUNDING < step.t <= high + ROUNDING


def _rescaled(
    x0: Tensor, eps: Tensor, conditional: Tensor, coefficients: tuple[Tensor, Tensor], share: float
) -> tuple[Tensor, Tensor]:
    """x0 with its standard deviation moved by `share` towards that of `conditional`, and ε from x_t and this x0."""
    alpha, sigma = coefficients
    wanted, found = (each.flatten(1).std(1, correction=0).view_as(sigma) for each in (conditional, x0))
    ratio = torch.where(found > 0, wanted / found, 1.0)
    scaled = (share * ratio + 1 - share) * x0
    return scaled, eps + alpha / sigma.clamp(min=SMALLEST) * (x0 - scaled)


def at_time(schedule: Schedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ, shaped to multiply `like`."""
    alpha, sigma = schedule(t)
    shape = (-1,) + (1,) * (like.ndim - 1)
    return alpha.view(shape), sigma.view(shape)
