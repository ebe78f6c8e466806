"""From a network and conditions to samples, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.diffusion.guidance import Droppable, Network, guided, rectified_cfg_plus_plus, unguided
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.diffusion.samplers import SAMPLERS, Denoise, Sampler, ddim
from signal_diffusion.diffusion.time_grids import TIME_GRIDS, shifted
from signal_diffusion.errors import UserError
from signal_diffusion.randomness import Purpose, generator_for, noise_for

__all__ = [
    "MOST_DECODED",
    "MOST_FRAMES",
    "Beginnings",
    "Conditions",
    "first_noise",
    "generate",
    "sampler_of",
    "times_of",
]

MOST_FRAMES = 50
MOST_DECODED = 13
"""Frames of a model of latents, each of which takes the decoder."""


class Conditions(Droppable, Protocol):
    """Conditions of a batch that can be cut into smaller ones."""

    def __getitem__(self, rows: slice) -> Self:
        """Those of some examples."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""


C = TypeVar("C", bound=Conditions)


@torch.no_grad()
def generate(
    model: Network[C],
    method: Method,
    cond: C,
    indices: Sequence[int],
    *,
    shape: tuple[int, ...],
    sampling: schema.Sampling,
    device: torch.device | str,
    guide: Network[C] | None = None,
    batch_size: int = 64,
    on_batch: Callable[[int], None] = lambda done: None,
    on_step: Callable[[slice, int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """Samples (N, *shape) on the CPU, in float32; sample i depends on (seed, indices[i]) and its condition alone.

    Parameters
    ----------
    model, method
        What was trained, and how its predictions are meant. The model should be in eval mode.
    cond
        Conditions of the N samples.
    indices
        Numbers of the N samples, from which their noise follows.
    sampling
        Sampler, time grid, guidance and seed.
    guide
        The network that autoguidance guides away from; needed for that alone.
    on_batch
        Called with the number of samples finished, before each batch and after the last; may raise.
    on_step
        Called after each step of a batch with its rows, the step, and `on_step`'s x and x0 of samplers, times data_std.
    """
    sampler, times, parts = sampler_of(sampling), times_of(method, sampling), []
    for start in range(0, len(indices), batch_size):
        on_batch(start)
        rows = slice(start, start + batch_size)
        generators = [generator_for(Purpose.SAMPLE, sampling.seed, i) for i in indices[rows]]
        noise = noise_for(generators, shape).to(device)
        denoise = _denoise(model, method, cond[rows].to(device), sampling, guide, noise)
        report = partial(_report, on_step, rows, method.data_std) if on_step else None
        x0 = sampler(denoise, method.schedule, noise, times, generators, on_step=report)
        parts.append(x0.cpu() * method.data_std)
    on_batch(len(indices))
    return torch.cat(parts) if parts else torch.empty(0, *shape)


def first_noise(method: Method, seed: int, indices: Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """What `generate` begins samples from, (N, *shape) on the CPU, times data_std."""
    return noise_for([generator_for(Purpose.SAMPLE, seed, i) for i in indices], shape) * method.data_std


def sampler_of(sampling: schema.Sampling) -> Sampler:
    """The sampler that [generation.sampling] asks for."""
    return ddim(sampling.eta) if sampling.sampler == "ddim" else SAMPLERS[sampling.sampler]


def times_of(method: Method, sampling: schema.Sampling) -> Tensor:
    """The times that its steps visit, (steps + 1,) float64; a UserError where they are too many."""
    if sampling.time_grid == "shifted":
        return shifted(method, sampling.steps, shift=sampling.time_shift)
    return TIME_GRIDS[sampling.time_grid](method, sampling.steps)


class Beginnings:
    """An `on_step` of `generate` that keeps x_t and x0 of the first samples, at the beginning of some steps.

    Parameters
    ----------
    noise
        What the first samples begin from (n, C, H, W), n at most the size of a batch.
    steps
        Steps to keep, from 0.
    """

    def __init__(self, noise: Tensor, steps: Collection[int]) -> None:
        self._xt, self._steps = noise, frozenset(steps)
        self.frames: list[tuple[Tensor, Tensor]] = []
        """(n, C, H, W) each, on the CPU."""

    def __call__(self, rows: slice, step: int, x: Tensor, x0: Tensor) -> None:
        """Take up where a step of a batch has led."""
        if rows.start:
            return
        count = len(self._xt)
        if step in self._steps:
            self.frames.append((self._xt.float().cpu(), x0[:count].float().cpu()))
        self._xt = x[:count]


def _report(
    on_step: Callable[[slice, int, Tensor, Tensor], None], rows: slice, scale: float, step: int, x: Tensor, x0: Tensor
) -> None:
    on_step(rows, step, x * scale, x0 * scale)


def _denoise(
    model: Network[C],
    method: Method,
    cond: C,
    sampling: schema.Sampling,
    guide: Network[C] | None,
    noise: Tensor,
) -> Denoise:
    """What a batch is sampled by: the model under its conditions, guided where that is asked for."""
    scale, interval = sampling.guidance_scale, sampling.guidance_interval
    conditional = unguided(model, method, cond)
    if scale == 1:
        return conditional
    if sampling.guidance_type == "autoguidance":
        if guide is None:
            raise UserError(
                "[generation.sampling] guidance_checkpoint: 'autoguidance' guides by another checkpoint, and none was "
                "loaded; expected a guidance_scale other than 1 when the model is loaded, or another guidance_type"
            )
        other = unguided(guide, method, cond)
    else:
        other = unguided(model, method, cond.drop(torch.ones(len(noise), dtype=torch.bool, device=noise.device)))
    if sampling.guidance_type == "cfg++":
        return rectified_cfg_plus_plus(conditional, other, method.schedule, scale, interval=interval)
    rescale = sampling.guidance_rescale
    return guided(conditional, other, method.schedule, scale, interval=interval, rescale=rescale)
