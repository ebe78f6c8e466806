"""If one of two processes that share the sampling is killed, the other ends; the same command keeps what is made."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from signal_diffusion.sampling.partial import KeptBatches
from tests.chaos import faults
from tests.sampling.test_resuming import assert_same
from tests.training.processes import two_processes

pytestmark = pytest.mark.processes


def sample_until(lost: int, busy: bool, words: list[str]) -> None:
    """Sample; one process is killed before its second batch is kept. The other waits for it, or is busy for ever."""
    from signal_diffusion.training import neighbours

    neighbours.SECONDS_TO_LEAVE = 1 if busy else 60
    rank, original, kept = int(os.environ["RANK"]), KeptBatches.write, []

    def write(self: KeptBatches, *arguments: Any, **named: Any) -> None:
        if rank == lost and kept:
            os.kill(os.getpid(), signal.SIGKILL)
        kept.append(original(self, *arguments, **named))
        if busy and rank != lost:
            threading.Event().wait()

    KeptBatches.write = write  # type: ignore[method-assign]
    faults.run(words)


@pytest.mark.parametrize(("lost", "busy"), [pytest.param(0, False, marks=pytest.mark.slow), (1, True)])
def test_a_killed_process_ends_the_other_and_the_same_command_continues(
    lost: int, busy: bool, electrodes_run: Path, undisturbed_samples: Path, tmp_path: Path
) -> None:
    words = ["sample", str(electrodes_run), "--num", "8", "--batch-size", "1", "--output", str(tmp_path / "out")]
    finished = two_processes(sample_until, lost, busy, words)
    assert finished.exit_codes[lost] == -signal.SIGKILL and finished.exit_codes[1 - lost] == 2, finished.output
    assert "Traceback" not in finished.output
    assert [line for line in finished.output.splitlines() if line.startswith("error: ")] == [
        f"error: process {lost} of 2 has ended; repeat the command, which keeps the samples made"
    ]
    assert len(list(tmp_path.glob(".unfinished-out/part-*"))) >= 2
    faults.succeed(*words)
    assert_same(tmp_path / "out", undisturbed_samples)


@pytest.fixture(scope="module")
def undisturbed_samples(electrodes_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("samples") / "out"
    faults.succeed("sample", electrodes_run, "--num", "8", "--batch-size", "1", "--output", output)
    return output
