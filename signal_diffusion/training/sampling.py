"""Samples during training, shared among all processes: each generates and decodes some, and all of them get all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from signal_diffusion.diffusion.generation import SampleGenerator

__all__ = ["gathered", "own_numbers"]


def own_numbers(count: int, accelerator: Accelerator) -> list[int]:
    """Which of `count` samples this process generates; the last may be generated twice, so that all have as many."""
    rank, world = accelerator.process_index, accelerator.num_processes
    share = -(-count // world)
    return [min(i, count - 1) for i in range(rank, rank + share * world, world)]


def gathered(
    generator: SampleGenerator, numbers: Sequence[int], samples: Tensor, accelerator: Accelerator, *, count: int
) -> Tensor:
    """All `count` examples (count, *shape), from what each process generated of them; each decodes its own."""
    examples = generator.decode(samples)
    shares = gather_object([(numbers, examples)]) if accelerator.num_processes > 1 else [(numbers, examples)]
    whole = torch.empty(count, *generator.shape)
    for indices, values in shares:
        whole[indices] = values
    return whole
