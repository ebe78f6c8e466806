"""A request to stop does not wait for previews or for generated validation samples to be complete."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signal_diffusion.checkpoints import verify
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.training.diffusion import train

PREVIEWS = ("training.visualization.enabled=true", "training.visualization.interval=2")
COMPARISON = ("training.validation.num_generated=2", "training.validation.interval=2")
LONG = ("generation.sampling.steps=10000", "training.visualization.num_samples=2", "training.checkpointing.interval=0")


@pytest.mark.parametrize("sampled", [PREVIEWS, COMPARISON])
def test_a_signal_ends_sampling_before_the_next_evaluation(
    sampled: tuple[str, ...], experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations, original = [], SampleGenerator._denoise

    def signalling(self: SampleGenerator, *arguments: Any) -> Callable[..., Any]:
        denoise = original(self, *arguments)

        def counted(*state: Any) -> Any:
            evaluations.append(state)
            if len(evaluations) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return denoise(*state)

        return counted

    monkeypatch.setattr(SampleGenerator, "_denoise", signalling)
    assert not train(experiment_file, output_dir=tmp_path, overrides=(*sampled, *LONG))
    assert len(evaluations) == 3
    assert verify(tmp_path / "checkpoint-2") == 2
