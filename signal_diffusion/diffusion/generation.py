"""From a network and conditions to samples, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.diffusion.guidance import Droppable, classifier_free
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.diffusion.samplers import SAMPLERS
from signal_diffusion.randomness import Purpose, generator_for, noise_for

__all__ = ["Conditions", "generate"]


class Conditions(Droppable, Protocol):
    """Conditions of a batch that can be cut into smaller ones."""

    def __getitem__(self, rows: slice) -> Self:
        """Those of some examples."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""


C = TypeVar("C", bound=Conditions)


@torch.no_grad()
def generate(
    model: Callable[[Tensor, Tensor, C], Tensor],
    method: Method,
    cond: C,
    indices: Sequence[int],
    *,
    shape: tuple[int, ...],
    sampling: schema.Sampling,
    device: torch.device | str,
    batch_size: int = 64,
    on_batch: Callable[[int], None] = lambda done: None,
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
        Sampler, steps, guidance scale and seed.
    on_batch
        Called with the number of samples finished, before each batch and after the last; may raise.
    """
    sampler, parts = SAMPLERS[sampling.sampler], []
    for start in range(0, len(indices), batch_size):
        on_batch(start)
        generators = [generator_for(Purpose.SAMPLE, sampling.seed, i) for i in indices[start : start + batch_size]]
        noise = noise_for(generators, shape).to(device)
        part = cond[start : start + batch_size].to(device)
        denoise = classifier_free(model, part, sampling.guidance_scale)
        parts.append(sampler(denoise, method, noise, sampling.steps, generators).cpu())
    on_batch(len(indices))
    return torch.cat(parts) if parts else torch.empty(0, *shape)
