"""The number of samples per batch, which fits into memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from signal_diffusion.errors import UserError

__all__ = ["BatchSize"]

MAX_VALUES = {"cuda": 2**24, "cpu": 2**20}
"""Largest number of values (samples × C × H × W) in an automatic batch."""
MAX_SAMPLES = {"cuda": 256, "cpu": 64}
"""Largest number of samples in an automatic batch."""
MOST_SHARED = 64
"""Largest number of samples in a batch that one of several processes may take."""
Result = TypeVar("Result")


class BatchSize:
    """The number of samples per batch: the `requested` one, or as many as fit into memory.

    Without a requested size, it starts with a size that should fit and divides the `most` samples evenly, and is
    halved permanently whenever memory runs out.
    """

    def __init__(self, requested: int | None, *, shape: tuple[int, ...], device: torch.device | str, most: int) -> None:
        self._is_fixed = requested is not None
        kind = "cuda" if torch.device(device).type == "cuda" else "cpu"
        fitting = max(1, min(MAX_SAMPLES[kind], MAX_VALUES[kind] // math.prod(shape), most))
        self.size = requested or math.ceil(most / math.ceil(most / fitting))

    def shared(self, count: int) -> list[slice]:
        """Slices of `count` rows for processes to share: the same ones however many processes there are."""
        size = min(self.size, MOST_SHARED)
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def fit(self, generate: Callable[..., Result]) -> Result:
        """The result of `generate(batch_size=…)` with the first size that fits into memory.

        Raises
        ------
        UserError
            If no size fits.
        """
        while True:
            try:
                return generate(batch_size=self.size)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                if self._is_fixed or self.size == 1:
                    advice = "use a smaller one, or auto" if self._is_fixed else "use another device"
                    raise UserError(f"--batch-size {self.size}: not enough memory; {advice}") from None
            # Only after the except block: its exception references the tensors that have to be freed.
            clear_device_cache(garbage_collection=True)
            self.size //= 2
