"""Time grids: the times that a sampler's steps visit, from noise to data, (steps + 1,) float64 and falling to 0.

All of them start where the method can: at t = 1, where there is nothing but noise; of an epsilon network where its
error makes one of x0 that is at most 200 times as large. From t = 1 of a cosine schedule, the first of 50 steps would
multiply the network's error by 600.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError

__all__ = ["TIME_GRIDS", "karras", "shifted", "uniform"]

LARGEST_ERROR_GAIN = 200.0
"""Largest error of x0 per error of the prediction where sampling may start; linear schedules have 157."""

LARGEST_RATIO, SMALLEST_RATIO, RHO = 80.0, 0.002, 7.0
"""σ_max, σ_min and ρ of Karras et al., of σ/α."""


def uniform(method: Method, steps: int) -> Tensor:
    """Evenly to 0; a method of T timesteps is asked at those alone, where there are enough before its start."""
    num_timesteps, first = method.schedule.num_timesteps, _start(method)
    times = first * torch.linspace(1, 0, _counted(steps, num_timesteps) + 1, dtype=torch.float64)
    if num_timesteps is None or steps > round(first * num_timesteps):
        return times
    return (times * num_timesteps).round() / num_timesteps


def karras(method: Method, steps: int) -> Tensor:
    """Dense at low noise: even in (σ/α)^(1/7), from 80 to 0.002 and then 0.

    The first time is the method's own start, where x is the noise that sampling begins with, should σ/α be above 80
    there. A method of T timesteps is asked between them, but not between the first and 0.

    Karras et al., https://arxiv.org/abs/2206.00364, equation 5
    """
    num_timesteps, first = method.schedule.num_timesteps, _start(method)
    ends = torch.tensor([first, 1 / num_timesteps if num_timesteps else 0.0], dtype=torch.float64)
    alpha, sigma = method.schedule(ends)
    largest, smallest = (sigma / alpha).tolist()
    high, low = (ratio ** (1 / RHO) for ratio in (min(largest, LARGEST_RATIO), max(smallest, SMALLEST_RATIO)))
    ratios = torch.linspace(high, low, _counted(steps), dtype=torch.float64) ** RHO
    return torch.cat([ends[:1], method.schedule.time_of(ratios.atan())[1:], torch.zeros(1, dtype=torch.float64)])


def shifted(method: Method, steps: int, *, shift: float = 3.0) -> Tensor:
    """Dense at high noise: t' = s·t/(1 + (s − 1)·t) of even times t, for flows; s = 1 is `uniform`.

    Esser et al., https://arxiv.org/abs/2403.03206, equation 23
    """
    times = torch.linspace(1, 0, _counted(steps) + 1, dtype=torch.float64)
    return _start(method) * shift * times / (1 + (shift - 1) * times)


TIME_GRIDS: dict[str, Callable[[Method, int], Tensor]] = {"uniform": uniform, "karras": karras, "shifted": shifted}


def _counted(steps: int, most: int | None = None) -> int:
    if steps < 1 or steps > (most or steps):
        raise UserError(f"{steps} sampling steps: expected 1 to {most or 'any number'}")
    return steps


def _start(method: Method) -> float:
    """The time that sampling starts from."""
    knots = torch.linspace(0, 1, (method.schedule.num_timesteps or 1000) + 1, dtype=torch.float64)
    return knots[method.error_gain(knots) <= LARGEST_ERROR_GAIN].max().item()
