"""Samples while training, drawn by the work of all processes: each has its share, and all of them get everything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.diffusion.generation import generate
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.conditioning.attributes import Conditioning

__all__ = ["by_itself", "draw", "gathered", "own_numbers"]


def by_itself(sampling: schema.Sampling, *, guidance_scale: float, seed: int) -> schema.Sampling:
    """As samples will be drawn, but by the network that is trained alone, with another scale and seed."""
    kind = sampling.guidance_type
    return dataclasses.replace(
        sampling,
        guidance_scale=guidance_scale,
        guidance_type="classifier-free" if kind == "autoguidance" else kind,
        seed=seed,
    )


def own_numbers(count: int, accelerator: Accelerator) -> list[int]:
    """Which of `count` samples this process draws.

    The last ones may come twice: every process has to poll equally often.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    share = -(-count // world)
    return [min(i, count - 1) for i in range(rank, rank + share * world, world)]


def draw(
    model: nn.Module,
    method: Method,
    cond: Conditioning,
    numbers: Sequence[int],
    accelerator: Accelerator,
    *,
    shape: tuple[int, ...],
    sampling: schema.Sampling,
    poll: Callable[[], None],
    on_step: Callable[[slice, int, Tensor, Tensor], None] | None = None,
) -> Tensor:
    """The samples of these `numbers`, as they leave the network, on the CPU; `cond` is of all samples.

    `poll` is called before each batch and may raise.
    """
    return generate(
        model,
        method,
        cond[torch.tensor(numbers)],
        numbers,
        shape=shape,
        sampling=sampling,
        device=accelerator.device,
        on_batch=lambda done: poll(),
        on_step=on_step,
    )


def gathered(
    numbers: Sequence[int],
    part: Tensor,
    accelerator: Accelerator,
    *,
    count: int,
    shape: tuple[int, ...],
    autoencoder: Autoencoder | None,
) -> Tensor:
    """All samples as data, (count, *shape), from the shares of all processes; each decodes its own."""
    if autoencoder:
        part = autoencoder.decode(part)
    shares = gather_object([(numbers, part)]) if accelerator.num_processes > 1 else [(numbers, part)]
    samples = torch.empty(count, *shape)
    for indices, values in shares:
        samples[indices] = values
    return samples
