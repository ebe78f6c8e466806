"""Random number generators that depend only on their purpose and key, not on earlier random numbers.

Each generator is created from a key such as (seed, step, process). So resuming a run does not need to restore or replay
any generator, and random numbers for one purpose do not shift those for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch

__all__ = ["Purpose", "derived_seed", "generator_for", "noise_for"]


class Purpose(IntEnum):
    """What random numbers are used for; part of the key, so that the same seed gives independent numbers for each."""

    WEIGHTS = 0
    ORDER = 1
    STEP = 2
    DROPOUT = 3
    VALIDATION = 4
    SAMPLE = 5
    SIGNAL = 6
    CONDITION = 7
    COMPARISON = 8
    MEMBERSHIP = 9


def derived_seed(purpose: Purpose, *key: int) -> int:
    """A 63-bit seed that depends on the whole key (numpy's SeedSequence hashes it)."""
    low, high = np.random.SeedSequence([int(purpose), *key]).generate_state(2)
    return int(low) | (int(high) & 0x7FFFFFFF) << 32


def generator_for(purpose: Purpose, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A new generator for one purpose and key."""
    return torch.Generator(device).manual_seed(derived_seed(purpose, *key))


def noise_for(generators: Sequence[torch.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise (B, *shape); example i depends only on generators[i], not on the rest of the batch."""
    return torch.stack([torch.randn(shape, generator=generator, device=generator.device) for generator in generators])
