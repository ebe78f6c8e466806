"""Samples of a preview that are not finite or have collapsed are warned about."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.preview_checks import fault_of

REAL = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
PATTERN, LEVELS = REAL[:1], torch.linspace(-1, 1, 16)[:, None, None, None]


@pytest.mark.parametrize(
    ("samples", "fault"),
    [
        (REAL[:16], ""),
        (0.1 * REAL[:16], ""),
        (REAL[:1], ""),
        (0.001 * REAL[:16], "each sample is flat (standard deviation 1.0e-03, of real examples 9.9e-01): collapsed"),
        (LEVELS.expand(16, 1, 8, 8), "each sample is flat (standard deviation 0.0e+00, of real examples"),
        (PATTERN + 0.001 * REAL[:16], "all samples are the same (standard deviation 1.0e-03, of real examples"),
        (torch.where(REAL[:4] > 2.4, torch.nan, REAL[:4]), "2 of 4 samples have values that are not finite"),
    ],
    ids=["real", "small", "one", "noise", "levels", "one pattern", "nan"],
)
def test_samples_that_do_not_vary_like_real_ones_have_collapsed(samples: Tensor, fault: str) -> None:
    found = fault_of(samples, REAL)
    assert found.startswith(fault) and bool(found) == bool(fault)


@pytest.mark.parametrize(("value", "fault"), [(0.5, "each sample is flat"), (torch.nan, "2 of 2 samples have values")])
def test_a_preview_warns_per_group_and_is_drawn_nevertheless(
    value: float,
    fault: str,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generate = SampleGenerator.generate

    def collapsed(*arguments: object, **named: object) -> Tensor:
        return generate(*arguments, **named).fill_(value)  # type: ignore[arg-type]

    monkeypatch.setattr(SampleGenerator, "generate", collapsed)
    overrides = ("training.visualization.enabled=true", "training.visualization.num_samples=4", "training.max_steps=1")
    train(experiment_file, output_dir=tmp_path, overrides=(*overrides, "training.validation.enabled=false"))
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert [line.startswith("warning: preview of step 1: ") and fault in line for line in warnings] == [True, True]
    assert (tmp_path / "samples" / "step-00000001.png").is_file()
