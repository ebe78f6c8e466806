"""A killed job continues where it stopped, and several processes generate the same samples as one."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.errors import UserError, report_user_errors
from signal_diffusion.sampling import job
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import Trained, load_trained
from tests.training.processes import two_processes

NUM = 5


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def trained(electrodes_run: Path) -> Trained:
    return load_trained(electrodes_run)


@pytest.fixture(autouse=True)
def no_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip samples.png, which takes most of the time and is not tested here."""
    monkeypatch.setattr("signal_diffusion.sampling.writing.draw_samples", lambda *arguments, **named: None)


def sample(trained: Trained, output: Path, *, stop_at: int | None = None, batch_size: int | None = 2) -> list[int]:
    """Generate `NUM` samples; returns the number of finished samples before each batch and after the last."""
    done: list[int] = []

    def on_batch(count: int) -> None:
        if count == stop_at:
            raise KilledError
        done.append(count)

    job.sample(trained, request_values(trained.attributes, {}, NUM), output, batch_size=batch_size, on_batch=on_batch)
    return done


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz") as file:
        return dict(file)


def assert_same(first: Path, second: Path) -> None:
    a, b = arrays(first), arrays(second)
    assert a.keys() == b.keys() and {"tensors", "signals"} <= a.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture(scope="module")
def uninterrupted(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert sample(trained, folder) == [0, 2, 4, 5]
    return folder


def test_an_interrupted_job_generates_only_the_missing_samples_and_is_bit_identical(
    trained: Trained, uninterrupted: Path, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        sample(trained, tmp_path / "out", stop_at=4)
    assert not (tmp_path / "out").exists()
    assert sample(trained, tmp_path / "out") == [4, 5]
    assert_same(tmp_path / "out", uninterrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_truncated_part_is_generated_again(trained: Trained, uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        sample(trained, tmp_path / "out", stop_at=4)
    part = tmp_path / ".unfinished-out" / "part-00000000.safetensors"
    part.write_bytes(part.read_bytes()[:-100])
    sample(trained, tmp_path / "out")
    assert_same(tmp_path / "out", uninterrupted)


def test_a_job_with_other_settings_does_not_continue_an_unfinished_one(
    trained: Trained, electrodes_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        sample(trained, tmp_path / "out", stop_at=4)
    other = load_trained(electrodes_run, ["generation.sampling.steps=1"])
    expected = r"\.unfinished-out: unfinished samples of other settings \(steps: 2 then, 1 now\); repeat the command"
    with pytest.raises(UserError, match=expected):
        sample(other, tmp_path / "out")
    with pytest.raises(UserError, match=r"\(batch_size: 2 then, 3 now\)"):
        sample(trained, tmp_path / "out", batch_size=3)


def test_a_job_with_other_conditions_does_not_continue_an_unfinished_one(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        sample(trained, tmp_path / "out", stop_at=4)
    request = request_values(trained.attributes, {"gender": "female"}, NUM)
    with pytest.raises(UserError, match="conditions_sha256"):
        job.sample(trained, request, tmp_path / "out", batch_size=2)


def test_an_automatic_batch_size_is_that_of_the_unfinished_job(
    trained: Trained, uninterrupted: Path, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        sample(trained, tmp_path / "out", stop_at=4)
    assert sample(trained, tmp_path / "out", batch_size=None) == [4, 5]
    assert_same(tmp_path / "out", uninterrupted)
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["batch_size"] == 2


def test_two_commands_cannot_write_the_same_folder(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / ".unfinished-out").mkdir()
    with filelock.FileLock(tmp_path / ".unfinished-out" / "lock"), pytest.raises(UserError, match="another process"):
        sample(trained, tmp_path / "out")


def test_a_folder_created_during_the_job_is_not_changed(trained: Trained, uninterrupted: Path, tmp_path: Path) -> None:
    output, request = tmp_path / "out", request_values(trained.attributes, {}, NUM)

    def create_folder(count: int) -> None:
        if count == NUM:
            output.mkdir()
            (output / "notes").write_text("mine")

    with pytest.raises(UserError, match="out: was created by something else in the meantime; move it"):
        job.sample(trained, request, output, batch_size=2, on_batch=create_folder)
    assert [path.name for path in output.iterdir()] == ["notes"]

    output.rename(tmp_path / "moved")
    assert sample(trained, output) == [5]
    assert_same(output, uninterrupted)


def test_a_folder_that_another_command_just_finished_is_not_changed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = "signal_diffusion.sampling.output_folder._acquire"
    monkeypatch.setattr(acquire, lambda lock, output: output.mkdir())  # while this one waited for the lock
    with pytest.raises(UserError, match="out already exists"):
        sample(trained, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_unfinished_folder_is_removed_while_it_is_locked(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unfinished, remove = tmp_path / ".unfinished-out", shutil.rmtree
    refused = []

    def removed(path: Path, **named: bool) -> None:
        if path == unfinished:
            with pytest.raises(filelock.Timeout):
                filelock.FileLock(unfinished / "lock", timeout=0).acquire()
            refused.append(path)
        remove(path, **named)

    monkeypatch.setattr("signal_diffusion.sampling.job.shutil.rmtree", removed)
    sample(trained, tmp_path / "out")
    assert refused == [unfinished] and not unfinished.exists()


def test_evaluations_of_batches_that_ran_out_of_memory_are_not_counted(electrodes_run: Path, tmp_path: Path) -> None:
    trained, sizes = load_trained(electrodes_run), []

    def two_fit(module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        sizes.append(len(arguments[0]))
        if sizes == [NUM, NUM]:  # in the second step
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    trained.model.register_forward_pre_hook(two_fit)  # type: ignore[arg-type]
    sample(trained, tmp_path / "out", batch_size=None)

    assert sizes == [5, 5, 2, 2, 2, 2, 2, 2]
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["evaluations_per_sample"] == 2.0


@pytest.mark.slow
def test_a_killed_command_continues_to_the_same_samples(electrodes_run: Path, tmp_path: Path) -> None:
    words = ["sample", str(electrodes_run), "--num", "60", "--batch-size", "1", "--output"]
    command = [sys.executable, "-m", "signal_diffusion.cli", *words, str(tmp_path / "out")]
    unfinished = tmp_path / ".unfinished-out"
    with subprocess.Popen(command) as process:
        while len(list(unfinished.glob("part-*"))) < 5 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    kept = list(unfinished.glob("part-*"))
    assert not (tmp_path / "out").exists() and 5 <= len(kept) < 60

    subprocess.run(command, check=True)
    CliRunner().invoke(app, [*words, str(tmp_path / "uninterrupted")], catch_exceptions=False)

    assert_same(tmp_path / "out", tmp_path / "uninterrupted")
    assert not unfinished.exists()


@pytest.mark.slow
def test_two_processes_generate_the_same_samples_as_one(electrodes_run: Path, tmp_path: Path) -> None:
    words = ["sample", str(electrodes_run), "--num", "7", "--batch-size", "2", "--output"]
    together = two_processes(app, [*words, str(tmp_path / "two")], standalone_mode=False)
    assert together.exit_codes == [0, 0], together.output
    CliRunner().invoke(app, [*words, str(tmp_path / "one")], catch_exceptions=False)

    assert_same(tmp_path / "two", tmp_path / "one")
    assert together.output.count("7 samples from") == 1
    assert json.loads((tmp_path / "two" / "samples.json").read_text())["num_processes"] == 2


def sample_with_failing_second_process(run: Path, output: Path) -> None:
    trained = load_trained(run)
    if os.environ["RANK"] == "1":
        trained = dataclasses.replace(trained, representation=None)  # type: ignore[arg-type]
    with report_user_errors():
        job.sample(trained, request_values(trained.attributes, {}, 8), output, batch_size=2)


@pytest.mark.slow
def test_a_failing_process_stops_the_others(electrodes_run: Path, tmp_path: Path) -> None:
    finished = two_processes(sample_with_failing_second_process, electrodes_run, tmp_path / "out")
    assert finished.exit_codes == [2, 2]
    assert "error: process 1: AttributeError: 'NoneType' object has no attribute 'inverse'" in finished.output
    assert not (tmp_path / "out").exists()
