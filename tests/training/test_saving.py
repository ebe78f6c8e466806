"""Checkpoints are written beside training, as exactly and as safely as if training had waited."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from signal_diffusion import checkpoints
from signal_diffusion.checkpoints import writing
from signal_diffusion.errors import SIGNALS, UserError
from signal_diffusion.training import stopping
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.stopping import StopRequest
from signal_diffusion.training.trainer import Trainer
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of

FEW = ("training.checkpointing.interval=5", "training.validation.enabled=false", "training.max_steps=12")


def test_training_goes_on_while_a_checkpoint_is_written_and_does_not_change_it(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(experiment_file, output_dir=tmp_path / "at once", overrides=FEW)
    write, step, later = checkpoints.write_checkpoint, Trainer.take_step, threading.Event()

    def slow(parent: Path, number: int, writers: Mapping[str, checkpoints.Writer]) -> Path:
        assert number > 5 or later.wait(120)
        return write(parent, number, writers)

    def counted(self: Trainer, now: int, *arguments: object) -> object:
        if now == 8:
            assert not (tmp_path / "beside" / "checkpoint-5").exists()
            later.set()
        return step(self, now, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoints, "write_checkpoint", slow)
    monkeypatch.setattr(Trainer, "take_step", counted)
    train(experiment_file, output_dir=tmp_path / "beside", overrides=FEW)
    for name in ("checkpoint-5", "checkpoint-10", "checkpoint-12"):
        assert largest_difference(tmp_path / "beside" / name, tmp_path / "at once" / name) == 0
    assert metrics_of(tmp_path / "beside") == metrics_of(tmp_path / "at once")


def without_space(experiment_file: Path, run: Path) -> bool:
    """Train on a disk that is full from step 6 on."""
    write = writing.write_manifest

    def full(folder: Path, step: int, names: object) -> None:
        if step > 5:
            raise OSError(28, "No space left on device")
        write(folder, step, names)  # type: ignore[arg-type]

    writing.write_manifest = full  # type: ignore[assignment]
    return train(experiment_file, output_dir=run, overrides=(*FEW, "training.max_steps=1000"))


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoints_before(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "write_manifest", writing.write_manifest)  # restored after the test
    with pytest.raises(UserError, match=r"checkpoint-10: cannot write the checkpoint: the disk is full \(needs "):
        without_space(experiment_file, tmp_path)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == ["checkpoint-5"]
    checkpoints.verify(tmp_path / "checkpoint-5")
    assert train(experiment_file, output_dir=tmp_path, resume="latest", overrides=(*FEW, "training.max_steps=5"))


def test_a_full_disk_of_the_first_process_ends_both_with_the_same_error(experiment_file: Path, tmp_path: Path) -> None:
    finished = two_processes(without_space, experiment_file, tmp_path)
    assert finished.exit_codes == [1, 1], finished.output
    assert finished.output.count("UserError: ") == 2 and "checkpoint-10: cannot write" in finished.output


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_asks_for_a_stop_and_is_as_before_afterwards(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.poll()
        signal.raise_signal(number)
        assert stop.poll() and stop.cause == number.name
    assert signal.getsignal(number) is before


def test_under_nohup_a_closed_terminal_does_not_stop_a_run() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.poll()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_only_the_same_signal_again_after_five_seconds_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now, acted = [0.0], list[int]()
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now[0])
    before = signal.signal(signal.SIGTERM, lambda number, frame: acted.append(number))
    try:
        with StopRequest() as stop:
            for seconds, number in ((0, signal.SIGUSR1), (60, signal.SIGTERM), (63, signal.SIGTERM)):
                now[0] = seconds
                signal.raise_signal(number)
            assert stop.poll() and stop.cause == "SIGUSR1" and not acted
            now[0] = 70
            signal.raise_signal(signal.SIGTERM)
            assert acted == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
