"""Two processes over gloo: the same files, the same curves, the same weights after a resume."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
from safetensors.torch import load_file

from signal_diffusion.checkpoints import verify
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.locking import LOCK_NAME
from signal_diffusion.training.trainer import Trainer
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of

pytestmark = pytest.mark.processes
WITH_PREVIEWS = (
    "training.visualization.enabled=true",
    "training.visualization.num_samples=3",
    "training.validation.num_generated=8",
    "training.validation.at_start=true",
    "training.validation.interval=8",
    "training.max_steps=8",
)


@pytest.fixture(scope="module")
def by_two(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "two"
    finished = two_processes(train, experiment_file, output_dir=run, overrides=WITH_PREVIEWS)
    assert finished.exit_codes == [0, 0], finished.output
    assert finished.output.count("2 × cpu") == 1
    return run


@pytest.fixture(scope="module")
def by_one(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    train(experiment_file, output_dir=run, overrides=(*WITH_PREVIEWS, "training.gradient_accumulation_steps=4"))
    return run


def test_one_process_can_load_what_two_have_trained(by_two: Path) -> None:
    assert (by_two / "samples" / "step-00000008.png").stat().st_size > 1000
    trained = load_trained(by_two)
    assert trained.checkpoint.name == "checkpoint-8"
    assert metrics_of(by_two)[-1]["validation/spectral_distance"] > 0
    assert isinstance(trained.card, DatasetCard)
    names = load_file(by_two / "checkpoint-8" / "model.safetensors").keys()
    assert names == trained.model.state_dict().keys()


@pytest.mark.slow  # tests/chaos/test_matrix.py resumes two processes, too
def test_resume_is_bit_identical_with_two_processes(by_two: Path, experiment_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copytree(by_two / "checkpoint-5", run / "checkpoint-5")
    shutil.copy(by_two / "metrics.jsonl", run)
    finished = two_processes(train, experiment_file, output_dir=run, resume="latest", overrides=WITH_PREVIEWS)
    assert finished.exit_codes == [0, 0], finished.output
    assert largest_difference(run / "checkpoint-8", by_two / "checkpoint-8") == 0
    assert metrics_of(run) == metrics_of(by_two)


def test_two_processes_are_refused_in_a_locked_run_directory(experiment_file: Path, tmp_path: Path) -> None:
    with filelock.FileLock(tmp_path / LOCK_NAME):
        finished = two_processes(train, experiment_file, output_dir=tmp_path)
    assert finished.exit_codes == [1, 1] and finished.output.count("UserError: ") == 2, finished.output
    assert [path.name for path in tmp_path.iterdir()] == [LOCK_NAME]


def stopped_at(step: int, rank: int, experiment_file: Path, run: Path) -> bool:
    """Train, with a stop signal to one process at a step."""
    original = Trainer.take_step

    def with_signal(self: Trainer, now: int, *arguments: object) -> object:
        if now == step and self.accelerator.process_index == rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, now, *arguments)  # type: ignore[arg-type]

    Trainer.take_step = with_signal  # type: ignore[method-assign,assignment]
    return train(experiment_file, output_dir=run, overrides=WITH_PREVIEWS)


def test_a_signal_to_one_process_stops_both_at_the_same_step(experiment_file: Path, tmp_path: Path) -> None:
    finished = two_processes(stopped_at, 5, 1, experiment_file, tmp_path)
    assert finished.exit_codes == [0, 0], finished.output
    assert (
        finished.output.count("stopped by another process at step 7") == 1
    )  # a poll returns what the previous one gathered
    assert "paused at step 7 of 8" in finished.output
    verify(tmp_path / "checkpoint-7")


@pytest.mark.slow
def test_the_readmes_accelerate_command_gives_the_same_run_with_two_processes(
    by_two: Path, experiment_file: Path, tmp_path: Path
) -> None:
    """All other tests start processes themselves, because `accelerate launch` imports torch three times."""
    command = [Path(sys.executable).parent / "accelerate", "launch", "--num_processes", "2", "--cpu"]
    port = ["--main_process_port", str(20_000 + os.getpid() % 20_000)]
    module = ["-m", "signal_diffusion.training.diffusion", experiment_file, "--output-dir", tmp_path]
    sets = [word for override in WITH_PREVIEWS for word in ("--set", override)]
    finished = subprocess.run(
        [*map(str, [*command, *port, *module]), *sets], capture_output=True, text=True, timeout=300
    )
    assert finished.returncode == 0 and "2 × cpu" in finished.stderr, finished.stderr
    assert largest_difference(tmp_path / "checkpoint-8", by_two / "checkpoint-8") == 0
    assert metrics_of(tmp_path) == metrics_of(by_two)


def test_the_learning_rate_does_not_depend_on_the_number_of_processes(by_two: Path, by_one: Path) -> None:
    one, two = (
        [row["train/learning_rate"] for row in metrics_of(run) if "train/learning_rate" in row]
        for run in (by_one, by_two)
    )
    assert one == two and len(one) == 2 and len(set(one)) == 2


def test_metrics_of_generated_samples_do_not_depend_on_the_number_of_processes(by_two: Path, by_one: Path) -> None:
    one, two = (metrics_of(run)[0] for run in (by_one, by_two))
    names = [name for name in one if name.startswith("validation/generated/")]
    assert one["step"] == two["step"] == 0 and len(names) == 10
    assert {name: one[name] for name in names} == pytest.approx({name: two[name] for name in names}, rel=1e-3)
