"""What version 0.1.0 wrote is still read: a tiny dataset, a run of two steps on it, and samples of that.

`written_before/` was made by commit 18d04e3 from three recordings of noise at two electrodes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.training.diffusion import train


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in the working directory, where its experiment file looks for its dataset."""
    shutil.copytree(Path(__file__).parent / "written_before", tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_dataset_passes_all_checks(before: Path) -> None:
    assert CliRunner().invoke(app, ["data", "check", "dataset"]).exit_code == 0


def test_a_checkpoint_generates_the_samples_that_it_generated_then(before: Path) -> None:
    options = ["--num", "2", "--label", "relaxed", "--format", "npz", "--output", "samples"]
    result = CliRunner().invoke(app, ["sample", "run", *options])

    assert result.exit_code == 0, result.output
    then, now = np.load("samples.npz"), np.load("samples/samples.npz")
    assert then.files == now.files
    assert np.allclose(then["tensors"], now["tensors"], atol=1e-4)
    assert np.allclose(then["signals"], now["signals"], atol=1e-2)  # µV; the phase is estimated iteratively


def test_a_run_is_resumed(before: Path) -> None:
    assert train(Path("run/config.toml"), output_dir=Path("run"), resume="latest", overrides=("training.max_steps=3",))
    assert (before / "run" / "checkpoint-3").is_dir()
