"""How samples come out of noise: where they were when a step began, and what the network took the data for there."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

__all__ = ["MOST_DECODED", "MOST_FRAMES", "Beginnings"]

MOST_FRAMES = 50
MOST_DECODED = 13
"""Frames of a model of latents, each of which takes the decoder."""


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
