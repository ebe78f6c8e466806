"""Distributed sampling during training: each process generates and decodes some samples, and all processes get all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from signal_diffusion.diffusion.generation import SampleGenerator

__all__ = ["gathered", "own_numbers"]


def own_numbers(count: int, accelerator: Accelerator) -> list[int]:
    """Which of `count` samples this process generates; the last one is repeated, so that all processes have as many."""
    rank, world = accelerator.process_index, accelerator.num_processes
    share = -(-count // world)
    return [min(i, count - 1) for i in range(rank, rank + share * world, world)]


def gathered(
    generator: SampleGenerator, numbers: Sequence[int], samples: Tensor, accelerator: Accelerator, *, count: int
) -> Tensor:
    """Decode this process's samples and gather those of all processes: (count, *shape)."""
    examples = generator.decode(samples)
    shares = gather_object([(numbers, examples)]) if accelerator.num_processes > 1 else [(numbers, examples)]
    whole = torch.empty(count, *generator.shape)
    for indices, values in shares:
        whole[indices] = values
    return whole
