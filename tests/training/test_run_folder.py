"""The run directory: one command at a time, no trace of how it was resumed, no checkpoints of an abandoned course."""

from __future__ import annotations

import errno
import json
import shlex
import shutil
from pathlib import Path
from typing import NoReturn

import filelock
import pytest

from signal_diffusion.checkpoints import list_checkpoints, write_manifest
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.locking import LOCK_NAME
from signal_diffusion.training.trainer import Trainer
from tests.training.runs import metrics_of

QUIET = ("training.validation.enabled=false",)


@pytest.fixture(scope="module")
def short(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, with a checkpoint at each."""
    run = tmp_path_factory.mktemp("runs") / "short"
    train(experiment_file, output_dir=run, overrides=(*QUIET, "training.max_steps=4"))
    return run


def steps_of(run: Path) -> list[int]:
    return [int(path.name.split("-")[1]) for path in list_checkpoints(run)]


def contents(run: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in run.rglob("*") if path.name != LOCK_NAME}


def test_a_run_does_not_save_how_it_was_resumed(short: Path, experiment_file: Path, tmp_path: Path) -> None:
    run, fresh = tmp_path / "run", tmp_path / "fresh"
    shutil.copytree(short, run)
    longer = (*QUIET, "training.max_steps=6")
    train(experiment_file, output_dir=run, resume=str(run / "checkpoint-3"), overrides=longer)

    train(run / "config.toml", output_dir=fresh)
    before = contents(run)
    with pytest.raises(UserError, match="already contains a run"):
        train(run / "config.toml")

    assert steps_of(fresh)[0] == 1 and contents(run) == before
    assert all(
        load_experiment(path).training.resume == load_experiment(experiment_file).training.resume
        for path in run.rglob("config.toml")
    )


def test_a_resumed_run_removes_what_a_kill_left_beyond_total_limit_before_it_trains(
    short: Path, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short, run)
    shutil.copytree(run / "checkpoint-1", run / "checkpoint-best")
    overrides = (*QUIET, "training.max_steps=5", "training.checkpointing.total_limit=2")

    def killed(*arguments: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(experiment_file, output_dir=run, resume="latest", overrides=overrides)
    assert steps_of(run) == [3, 4] and (run / "checkpoint-best").is_dir()


def test_a_refused_command_does_not_delete_an_unfinished_checkpoint(
    short: Path, experiment_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(short, tmp_path / "run")
    (tmp_path / "run" / ".unfinished-checkpoint-5").mkdir()
    with pytest.raises(UserError, match="already contains a run"):
        train(experiment_file, output_dir=tmp_path / "run")
    assert (tmp_path / "run" / ".unfinished-checkpoint-5").is_dir()


def test_a_second_command_is_refused_and_changes_nothing(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, refusals = Trainer.take_step, list[UserError]()

    def with_another(self: Trainer, step: int, *arguments: object) -> object:
        if step == 2:
            self.writer.collect(wait=True)
            (tmp_path / ".unfinished-checkpoint-3").mkdir()
            before = contents(tmp_path)
            for resume in (None, "latest"):
                with pytest.raises(UserError, match="another command is training in this run directory") as caught:
                    train(experiment_file, output_dir=tmp_path, resume=resume)
                refusals.append(caught.value)
            assert contents(tmp_path) == before
        return original(self, step, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "take_step", with_another)
    assert train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, "training.max_steps=4"))
    assert [len(error.lines) for error in refusals] == [1, 1]
    assert steps_of(tmp_path) == [1, 2, 3, 4] and not (tmp_path / LOCK_NAME).exists()


def test_a_lock_left_by_a_kill_or_a_file_system_without_locks_does_not_prevent_a_run(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = (*QUIET, "training.max_steps=1")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / LOCK_NAME).touch()
    assert train(experiment_file, output_dir=tmp_path / "killed", overrides=short)

    class Unsupported(filelock.FileLock):
        def acquire(self, *arguments: object, **named: object) -> NoReturn:
            raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock, "FileLock", Unsupported)
    assert train(experiment_file, output_dir=tmp_path / "without", overrides=short)


def test_resuming_from_an_earlier_step_removes_later_checkpoints_before_the_first_step(
    short: Path,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(short, tmp_path / "run")
    rare = (*QUIET, "training.max_steps=6", "training.checkpointing.interval=5")

    def killed(self: Trainer, *arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", killed)
        with pytest.raises(KeyboardInterrupt):
            train(
                experiment_file, output_dir=tmp_path / "run", resume=str(tmp_path / "run/checkpoint-2"), overrides=rare
            )

    assert steps_of(tmp_path / "run") == [1, 2]
    assert "checkpoint-2 at step 2; removed the later checkpoint-3, checkpoint-4" in capsys.readouterr().err
    train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=rare)
    assert "checkpoint-2 at step 2\n" in capsys.readouterr().err


def test_a_changed_epoch_length_is_reported_and_an_end_before_the_checkpoint_is_refused(
    short: Path, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(short, tmp_path / "run")
    before = contents(tmp_path / "run")
    (tmp_path / "epochs.toml").write_text(experiment_file.read_text().replace("max_steps = 15", "epochs = 1"))
    for config, override, expected in (
        (experiment_file, "training.max_steps=3", r"would end at step 3, but"),
        (
            tmp_path / "epochs.toml",
            "training.gradient_accumulation_steps=4",
            r"would end at step 3 \(3 steps per epoch, formerly 6\), but",
        ),
    ):
        with pytest.raises(UserError, match=rf"\[training\] max_steps, epochs: .* {expected}"):
            train(config, output_dir=tmp_path / "run", resume="latest", overrides=(*QUIET, override))
    assert contents(tmp_path / "run") == before
    capsys.readouterr()

    other = (*QUIET, "training.gradient_accumulation_steps=1", "training.max_steps=5")
    train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=other)
    assert "steps per epoch: 12, but 6 up to step 4 (batch size, accumulation, number of" in capsys.readouterr().err
    assert json.loads((tmp_path / "run/checkpoint-5/progress.json").read_text())["steps_per_epoch"] == 12


def test_a_checkpoint_of_a_version_that_saved_no_steps_per_epoch_can_be_resumed(
    short: Path, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "run" / "checkpoint-4"
    shutil.copytree(short / "checkpoint-4", checkpoint)
    progress = json.loads((checkpoint / "progress.json").read_text())
    del progress["steps_per_epoch"]
    (checkpoint / "progress.json").write_text(json.dumps(progress))
    write_manifest(checkpoint, 4, json.loads((checkpoint / "manifest.json").read_text())["files"])

    assert train(
        experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=(*QUIET, "training.max_steps=5")
    )

    assert "steps per epoch:" not in capsys.readouterr().err
    assert metrics_of(tmp_path / "run")[-1]["epoch"] == pytest.approx(5 / 6)


def test_the_printed_sample_command_can_be_pasted_for_a_path_with_spaces(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "my runs" / "first"
    train(experiment_file, output_dir=run, overrides=("training.max_steps=1",))
    line = next(line for line in capsys.readouterr().err.splitlines() if "signal-diffusion sample" in line)
    assert shlex.split(line)[-3:] == [str(run), "--num", "64"]
