"""Two processes over gloo: the same files, the same curves, the same weights after a resume."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.pipeline import load_trained
from signal_diffusion.training.diffusion import train
from tests.training.runs import largest_difference, metrics_of

WITH_PREVIEWS = (
    "training.visualization.enabled=true",
    "training.visualization.num_samples=3",
    "training.max_steps=8",
)


def launch(experiment: Path, run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Train with two processes, by the command of the README."""
    command = [Path(sys.executable).parent / "accelerate", "launch", "--num_processes", "2", "--cpu"]
    port = ["--main_process_port", str(20_000 + os.getpid() % 20_000)]
    module = ["-m", "signal_diffusion.training.diffusion", experiment, "--output-dir", run]
    sets = [word for override in WITH_PREVIEWS for word in ("--set", override)]
    return subprocess.run(
        [*map(str, [*command, *port, *module]), *sets, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def two_processes(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "two"
    finished = launch(experiment_file, run)
    assert finished.returncode == 0, finished.stderr
    assert "2 × cpu" in finished.stderr
    return run


def test_two_processes_validate_draw_and_save_what_one_can_load(two_processes: Path) -> None:
    assert (two_processes / "samples" / "step-00000008.png").stat().st_size > 1000
    trained = load_trained(two_processes)
    assert trained.checkpoint.name == "checkpoint-8"
    assert isinstance(trained.card, DatasetCard)
    names = load_file(two_processes / "checkpoint-8" / "model.safetensors").keys()
    assert names == trained.model.state_dict().keys()


def test_resume_is_bit_identical_with_two_processes(two_processes: Path, experiment_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copytree(two_processes / "checkpoint-5", run / "checkpoint-5")
    shutil.copy(two_processes / "metrics.jsonl", run)
    finished = launch(experiment_file, run, "--resume-from-checkpoint", "latest")
    assert finished.returncode == 0, finished.stderr
    assert largest_difference(run / "checkpoint-8", two_processes / "checkpoint-8") == 0
    assert metrics_of(run) == metrics_of(two_processes)


def test_the_learning_rate_does_not_depend_on_the_number_of_processes(
    two_processes: Path, experiment_file: Path, tmp_path: Path
) -> None:
    train(
        experiment_file,
        output_dir=tmp_path,
        overrides=(*WITH_PREVIEWS, "training.gradient_accumulation_steps=4"),
    )
    one, two = (
        [row["train/learning_rate"] for row in metrics_of(run) if "train/learning_rate" in row]
        for run in (tmp_path, two_processes)
    )
    assert one == two and len(one) == 2 and len(set(one)) == 2
