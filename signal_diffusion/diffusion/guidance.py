"""Guidance: how strongly a sample follows its conditions.

One meaning of the scale w everywhere: u + w·(c − u), where c is what the network believes under its conditions and u
what it is guided away from. 1 is the conditional network alone (`generate` then asks for nothing else); 0 is u (of
`rectified_cfg_plus_plus` in the limit of small steps alone); above 1 overstates what sets c apart from u. Predictions
are linear in (x0, ε), so it is x0 and ε that are guided, and the name of the prediction plays no part.

The choices of u: the same network without conditions (classifier-free, Ho & Salimans,
https://arxiv.org/abs/2207.12598, whose w is ours minus 1), or a weaker one under the same conditions (autoguidance,
Karras et al., https://arxiv.org/abs/2406.02507).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from signal_diffusion.diffusion.methods import Method
from signal_diffusion.diffusion.samplers import Denoise, Step
from signal_diffusion.diffusion.schedules import Schedule

__all__ = ["EVERYWHERE", "Droppable", "Network", "guided", "rectified_cfg_plus_plus", "unguided"]

EVERYWHERE = (0.0, 1.0)
"""The interval of all times."""

SMALLEST = 1e-6
"""Floor of σ where it divides."""
ROUNDING = 1e-6
"""By which a time of a grid may miss the end of an interval that it is meant to be."""


class Droppable(Protocol):
    """Conditions of a batch that can be put to their learnt null."""

    def drop(self, mask: Tensor) -> Self:
        """The null in the rows of `mask`, (B,) bool."""


C = TypeVar("C", bound=Droppable)
Network = Callable[[Tensor, Tensor, C], Tensor]
"""(x_t, t, conditions) → prediction."""


def unguided(model: Network[C], method: Method, cond: C) -> Denoise:
    """What the network believes x0 and ε to be under `cond`."""
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
    """u + w·(c − u), of x0 and of ε.

    Parameters
    ----------
    c, u
        What is guided, and what it is guided away from.
    scale
        w ≥ 0. At 1 it is `c` but for rounding: who wants that to the bit, in one pass, takes `c`.
    interval
        (low, high]: in a step that begins at t, `c` alone is evaluated, and returned, unless low < t ≤ high; a step is
        guided all of it or not at all, so that it keeps its sampler's order. Steps down a grid that has `low` and
        `high` in it are guided on exactly that stretch, and (0, 1] is everywhere.
        Kynkäänniemi et al., https://arxiv.org/abs/2404.07724, with our t for their σ
    rescale
        φ ∈ [0, 1]: x0 becomes φ·x0·std(x0 of c)/std(x0) + (1 − φ)·x0, with the deviations over all values of an
        example, and ε what x_t then leaves to it.
        Lin et al., https://arxiv.org/abs/2305.08891, section 3.4, who scale the network's output (there v) instead of
        x0, and so depend on the prediction
    """

    def denoise(xt: Tensor, t: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        conditional = c(xt, t, step)
        if not _inside(interval, step):
            return conditional
        x0, eps = (to + scale * (of - to) for of, to in zip(conditional, u(xt, t, step), strict=True))
        return _rescaled(x0, eps, conditional[0], _at(schedule, t, xt), rescale) if rescale else (x0, eps)

    return denoise


def rectified_cfg_plus_plus(
    c: Denoise,
    u: Denoise,
    schedule: Schedule,
    scale: float,
    *,
    interval: tuple[float, float] = EVERYWHERE,
) -> Denoise:
    """Guidance of a flow by what c and u believe half a conditional step ahead; for `euler`, which asks once a step.

    With v = ε − x0, a step from t to s and m = (t + s)/2 between them:

        x_m = x_t + (m − t)·v_c(x_t, t),   v = v_c(x_t, t) + (w − 1)·(v_c(x_m, m) − v_u(x_m, m))

    which is u + w·(c − u) in the limit of small steps, in three passes. Before it, w = 1 is c, but w = 0 is not u.

    Saini et al., https://arxiv.org/abs/2510.07631, algorithm 1, without its optional noise, and with w − 1 for its
    λ_max·(1 − t)^γ: what becomes of guidance towards either end is for `interval` to say. (Its authors' code has a
    constant in that place too, and goes a whole step ahead.)

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
        alpha, sigma = _at(schedule, middle, xt)
        ahead = alpha * x0 + sigma * eps
        (x0_c, eps_c), (x0_u, eps_u) = c(ahead, middle, step), u(ahead, middle, step)
        push = (scale - 1) * ((eps_c - x0_c) - (eps_u - x0_u))
        alpha, sigma = _at(schedule, t, xt)
        return x0 - sigma * push, eps + alpha * push  # the pair of x_t whose ε − x0 is v, since α + σ = 1

    return denoise


def _inside(interval: tuple[float, float], step: Step) -> bool:
    """Whether a step is guided: by where it begins."""
    low, high = interval
    return low + ROUNDING < step.t <= high + ROUNDING


def _rescaled(
    x0: Tensor, eps: Tensor, conditional: Tensor, coefficients: tuple[Tensor, Tensor], share: float
) -> tuple[Tensor, Tensor]:
    """x0 with `share` of the way to the deviation of the `conditional` one, and the ε that x_t leaves to it."""
    alpha, sigma = coefficients
    wanted, found = (each.flatten(1).std(1, correction=0).view_as(sigma) for each in (conditional, x0))
    ratio = torch.where(found > 0, wanted / found, 1.0)
    scaled = (share * ratio + 1 - share) * x0
    return scaled, eps + alpha / sigma.clamp(min=SMALLEST) * (x0 - scaled)


def _at(schedule: Schedule, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ, shaped to multiply `like`."""
    alpha, sigma = schedule(t)
    shape = (-1,) + (1,) * (like.ndim - 1)
    return alpha.view(shape), sigma.view(shape)
