"""Sampling the rest of examples of which some values are given.

A network that was trained with masks takes the given values as input, so any sampler works: its estimates are only
corrected to be exact where values are given. Any other network is sampled by replacement (Lugmayr et al., RePaint,
https://arxiv.org/abs/2201.09865, algorithm 1): at each time, the given values with noise replace those of the sample,
and the step is repeated, so that the rest adapts to them. Replacement only approaches the conditional distribution, the
better the more often each step is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from signal_diffusion.diffusion.guidance import SMALLEST, at_time
from signal_diffusion.diffusion.samplers import Denoise, Sampler, Step, steps_of
from signal_diffusion.diffusion.schedules import Schedule
from signal_diffusion.known import Known
from signal_diffusion.randomness import noise_for

__all__ = ["Replacement", "projected", "with_given"]


def projected(denoise: Denoise, project: Callable[[Tensor], Tensor], schedule: Schedule) -> Denoise:
    """The estimates with x0 in a subspace that contains all examples, and the ε that x_t then contains."""

    def inside(xt: Tensor, t: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        x0, eps = denoise(xt, t, step)
        alpha, sigma = at_time(schedule, t, xt)
        nearest = project(x0)
        return nearest, eps + alpha * (x0 - nearest) / sigma.clamp(min=SMALLEST)

    return inside


def with_given(denoise: Denoise, known: Known, schedule: Schedule) -> Denoise:
    """The estimates with x0 as given, and the ε that x_t then contains, wherever values are given."""

    def exact(xt: Tensor, t: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        x0, eps = denoise(xt, t, step)
        alpha, sigma = at_time(schedule, t, xt)
        noise = (xt - alpha * known.values) / sigma.clamp(min=SMALLEST)
        return known.inserted(x0), torch.where(known.mask, noise, eps)

    return exact


@dataclass(frozen=True)
class Replacement:
    """A sampler for networks that were trained without masks; it takes the same arguments as `Sampler`."""

    sampler: Sampler
    known: Known
    repeats: int
    """How often each step is taken, 1 or more."""

    @torch.no_grad()
    def __call__(
        self,
        denoise: Denoise,
        schedule: Schedule,
        noise: Tensor,
        times: Tensor,
        generators: Sequence[torch.Generator],
        *,
        on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Sample x0 of the shape of `noise` (B, …); given values are inserted at the end."""
        x, shape = noise.to(torch.promote_types(noise.dtype, torch.float32)), noise.shape[1:]

        def draw() -> Tensor:
            return noise_for(generators, shape).to(x)

        for i, step in enumerate(steps_of(schedule, times, draw)):
            for repeat in range(self.repeats):
                if repeat:
                    x = _noised(x, step, draw())
                given = step.alpha_t * self.known.values + step.sigma_t * draw()
                x, x0 = self.sampler.advance(denoise, torch.where(self.known.mask, given, x), step)
            if on_step is not None:
                on_step(i, x, x0)
        return self.known.inserted(x)


def _noised(x: Tensor, step: Step, noise: Tensor) -> Tensor:
    """x_t from x_s by the forward process: (α_t/α_s)·x_s + √(σ_t² − (α_t·σ_s/α_s)²)·z."""
    kept = step.alpha_t / step.alpha_s
    return kept * x + max(step.sigma_t**2 - (kept * step.sigma_s) ** 2, 0.0) ** 0.5 * noise
