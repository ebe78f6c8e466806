"""If one of two processes ends, the other ends too, with one line that says how to go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from accelerate import Accelerator

from signal_diffusion.checkpoints import list_checkpoints, verify
from signal_diffusion.errors import report_user_errors
from signal_diffusion.training import neighbours
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.neighbours import Neighbours
from signal_diffusion.training.trainer import Trainer
from tests.training.processes import two_processes

pytestmark = pytest.mark.processes
FEW = ("training.validation.enabled=false", "training.checkpointing.interval=2")


def train_until(lost: int, experiment_file: Path, run: Path) -> None:
    """Train with two processes, of which one is killed in step 7."""
    step = Trainer.take_step

    def killed(self: Trainer, now: int, *arguments: object) -> object:
        if now == 7 and self.accelerator.process_index == lost:
            while not (run / "checkpoint-6").is_dir():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, now, *arguments)  # type: ignore[arg-type]

    Trainer.take_step = killed  # type: ignore[method-assign,assignment]
    with report_user_errors():
        train(experiment_file, output_dir=run, overrides=FEW)


@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_other_with_one_line(lost: int, experiment_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    finished = two_processes(train_until, lost, experiment_file, run)
    assert finished.exit_codes[lost] == -signal.SIGKILL and finished.exit_codes[1 - lost] == 2, finished.output
    assert "Traceback" not in finished.output
    assert [line for line in finished.output.splitlines() if line.startswith("error: ")] == [
        f"error: process {lost} of 2 has ended; the last checkpoint is {run / 'checkpoint-6'}; repeat the command with "
        "--resume-from-checkpoint latest"
    ]
    assert verify(list_checkpoints(run)[-1]) == 6
    assert train(experiment_file, output_dir=run, resume="latest", overrides=FEW)


def hang(lost: int) -> None:
    """Wait for ever in the process that is not lost, as in a collective operation of NCCL."""
    neighbours.SECONDS_TO_LEAVE = 1
    with report_user_errors(), Neighbours(Accelerator(cpu=True), lambda: "go on"):
        if int(os.environ["RANK"]) == lost:
            os._exit(9)
        threading.Event().wait()


@pytest.mark.parametrize("lost", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_that_hangs_ends_too(lost: int) -> None:
    finished = two_processes(hang, lost)
    assert finished.exit_codes == ([9, 2] if lost == 0 else [2, 9])
    assert finished.output == f"error: process {lost} of 2 has ended; go on\n"


def leave_at_different_times() -> None:
    with Neighbours(Accelerator(cpu=True), lambda: ""):
        time.sleep(2 * int(os.environ["RANK"]))


def test_processes_that_leave_one_after_the_other_are_not_lost() -> None:
    finished = two_processes(leave_at_different_times)
    assert finished.exit_codes == [0, 0] and not finished.output
