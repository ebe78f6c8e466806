"""A launcher that ends without its processes: they save and stop, and the next command goes on with the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from signal_diffusion.training.trainer import Trainer
from tests.chaos import faults
from tests.chaos.records import line_of
from tests.chaos.trainings import assert_same, resumed, steps_lost, training
from tests.training.processes import another_process

pytestmark = [pytest.mark.chaos, pytest.mark.processes, pytest.mark.slow]
STOPPED = "stopped by the end of its launcher at step 5"
SECONDS = 30
"""How long processes may go on without their launcher."""
BIN = Path(sys.executable).parent
TORCHRUN = [BIN / "torchrun", "--nproc_per_node", "2", "-m", "--"]
ACCELERATE = [BIN / "accelerate", "launch", "--cpu", "--num_processes", "2", "-m"]


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


def launch(words: list[str], log: Path) -> None:
    """Start a process as a launcher does; at its fifth step, it kills this one."""
    if child := os.fork():
        log.with_suffix(".pid").write_text(str(child))
        os.waitpid(child, 0)
        return
    original = Trainer.take_step

    def killing(self: Trainer, step: int, *arguments: object) -> object:
        if step == 4:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(0.5)
        return original(self, step, *arguments)  # type: ignore[arg-type]

    Trainer.take_step = killing  # type: ignore[method-assign,assignment]
    with log.open("w") as file:
        os.dup2(file.fileno(), 2)
    faults.run(words)
    os._exit(0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_run_whose_launcher_is_killed_saves_and_goes_on_with_the_same_bits(
    experiment_file: Path, undisturbed: Path, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    words = [str(word) for word in training(experiment_file, run)]
    assert another_process(launch, words, log, TORCHELASTIC_RUN_ID="none").exit_codes == [-signal.SIGKILL]
    child = int(log.with_suffix(".pid").read_text())
    wait_until(lambda: not psutil.pid_exists(child), SECONDS)
    assert line_of(log.read_text(), run) == STOPPED
    assert resumed(run) == 5 and steps_lost(run) == 0
    faults.succeed(*training(experiment_file, run))
    assert_same(run, undisturbed)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
@pytest.mark.parametrize(
    ("launcher", "number"),
    [
        *((ACCELERATE, number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1)),
        *((TORCHRUN, number) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGKILL)),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else value[0].name,
)
def test_two_processes_end_within_seconds_of_a_signal_to_their_launcher(
    launcher: list[str], number: signal.Signals, experiment_file: Path, tmp_path: Path
) -> None:
    run, log = tmp_path / "run", tmp_path / "log"
    few = ["training.max_steps=100000", "training.validation.enabled=false", "training.checkpointing.interval=0"]
    sets = [word for override in few for word in ("--set", override)]
    module = ["signal_diffusion.training.diffusion", experiment_file, "--output-dir", run, *sets]
    with log.open("w") as file:
        process = subprocess.Popen([*map(str, [*launcher, *module])], stdout=file, stderr=file, start_new_session=True)
    metrics = run / "metrics.jsonl"
    wait_until(lambda: metrics.is_file() and metrics.stat().st_size > 0, 300)
    processes = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    process.wait(SECONDS)
    _, alive = psutil.wait_procs(processes, SECONDS)
    for each in alive:
        each.kill()
    assert not alive and len(processes) >= 2
    assert "stopped by the end of its launcher at step" in log.read_text()
    assert resumed(run) > 0
