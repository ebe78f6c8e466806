"""Time grids: the times that a sampler's steps visit, from noise to data, (steps + 1,) float64, decreasing to 0.

They start at t = 1, pure noise; for an epsilon network, at the last time at which x0 has at most 200 times the error of
the prediction. From t = 1 of a cosine schedule, the first of 50 steps would multiply the network's error by 600.
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
"""σ_max, σ_min and ρ of Karras et al., for σ/α."""


def uniform(method: Method, steps: int) -> Tensor:
    """Evenly spaced to 0; rounded to the timesteps of a discrete method, if there are enough of them from its start."""
    num_timesteps, first = method.schedule.num_timesteps, _start(method)
    times = first * torch.linspace(1, 0, _checked(steps, num_timesteps) + 1, dtype=torch.float64)
    if num_timesteps is None or steps > round(first * num_timesteps):
        return times
    return (times * num_timesteps).round() / num_timesteps


def karras(method: Method, steps: int) -> Tensor:
    """Dense at low noise: evenly spaced in (σ/α)^(1/7), from 80 to 0.002 and then 0.

    The first time is always the method's own start, where x is the initial noise, even if σ/α is above 80 there. A
    discrete method is evaluated between its timesteps too, but not between the first timestep and 0.

    Karras et al., https://arxiv.org/abs/2206.00364, equation 5
    """
    num_timesteps, first = method.schedule.num_timesteps, _start(method)
    ends = torch.tensor([first, 1 / num_timesteps if num_timesteps else 0.0], dtype=torch.float64)
    alpha, sigma = method.schedule(ends)
    largest, smallest = (sigma / alpha).tolist()
    high, low = (ratio ** (1 / RHO) for ratio in (min(largest, LARGEST_RATIO), max(smallest, SMALLEST_RATIO)))
    ratios = torch.linspace(high, low, _checked(steps), dtype=torch.float64) ** RHO
    return torch.cat([ends[:1], method.schedule.time_of(ratios.atan())[1:], torch.zeros(1, dtype=torch.float64)])


def shifted(method: Method, steps: int, *, shift: float = 3.0) -> Tensor:
    """Dense at high noise: t' = s·t/(1 + (s − 1)·t) for evenly spaced t, for flows; s = 1 is `uniform`.

    Esser et al., https://arxiv.org/abs/2403.03206, equation 23
    """
    times = torch.linspace(1, 0, _checked(steps) + 1, dtype=torch.float64)
    return _start(method) * shift * times / (1 + (shift - 1) * times)


TIME_GRIDS: dict[str, Callable[[Method, int], Tensor]] = {"uniform": uniform, "karras": karras, "shifted": shifted}


def _checked(steps: int, most: int | None = None) -> int:
    if steps < 1 or steps > (most or steps):
        raise UserError(f"{steps} sampling steps: expected {f'1 to {most}' if most else '1 or more'}")
    return steps


def _start(method: Method) -> float:
    """The time at which sampling starts."""
    knots = torch.linspace(0, 1, (method.schedule.num_timesteps or 1000) + 1, dtype=torch.float64)
    return knots[method.error_gain(knots) <= LARGEST_ERROR_GAIN].max().item()
