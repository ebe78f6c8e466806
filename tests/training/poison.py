"""Losses that are not finite, at chosen steps."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from signal_diffusion.data.loaders import Batch
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.training.trainer import Trainer


def poison(monkeypatch: pytest.MonkeyPatch, *steps: int, after_rollbacks: Collection[int] = (0,)) -> None:
    """Make the loss of some steps (from 0) NaN, while the run has gone back to a good checkpoint so many times."""
    original = Trainer._backward

    def poisoned(self: Trainer, step: int, part: tuple[int, int], batch: Batch) -> None:
        loss = Method.loss
        if step in steps and self.progress.rollbacks in after_rollbacks:
            monkeypatch.setattr(Method, "loss", lambda *arguments: loss(*arguments) * float("nan"))
        original(self, step, part, batch)
        monkeypatch.setattr(Method, "loss", loss)

    monkeypatch.setattr(Trainer, "_backward", poisoned)
