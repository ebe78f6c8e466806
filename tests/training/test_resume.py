"""A run that was interrupted is, to the bit, the run that was not."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from signal_diffusion.errors import UserError
from signal_diffusion.training.checkpoints import list_checkpoints
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.trainer import Trainer
from tests.training.runs import largest_difference, metrics_of

LAST = "checkpoint-15"


@pytest.fixture(scope="module")
def uninterrupted(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert train(experiment_file, output_dir=run)
    return run


def killed_after(step: int, uninterrupted: Path, run: Path) -> Path:
    """What a kill shortly before step + 3 leaves: checkpoints up to `step`, and metrics beyond it."""
    run.mkdir()
    shutil.copytree(uninterrupted / f"checkpoint-{step}", run / f"checkpoint-{step}")
    rows = (uninterrupted / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(
        "".join(rows[: len([r for r in rows if int(r.split(",")[0].split(":")[1]) < step + 3])])
    )
    return run


@pytest.mark.parametrize("step", [1, 5, 6, 7, 8, 11, 14], ids=lambda step: f"step {step} of epochs of 6")
def test_resume_is_bit_identical_in_mid_epoch_and_at_its_borders(
    step: int, uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    run = killed_after(step, uninterrupted, tmp_path / "run")
    train(experiment_file, output_dir=run, resume="latest")
    assert largest_difference(run / LAST, uninterrupted / LAST) == 0
    assert metrics_of(run) == metrics_of(uninterrupted)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    original = Trainer._step

    def with_signal(self: Trainer, now: int, *arguments: object) -> object:
        if now == step:
            os.kill(os.getpid(), number)
        return original(self, now, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_step", with_signal)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_stops_by_signal_and_two_resumes_change_nothing(
    number: signal.Signals,
    uninterrupted: Path,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "run"
    overrides = ("training.checkpointing.interval=0", "training.checkpointing.total_limit=1")
    for stop, resume in ((6, None), (9, "latest")):
        with monkeypatch.context() as patch:
            stop_at(patch, stop, number)
            assert not train(experiment_file, output_dir=run, resume=resume, overrides=overrides)
        assert list_checkpoints(run)[-1].name == f"checkpoint-{stop + 1}"
    assert train(experiment_file, output_dir=run, resume="latest", overrides=overrides)
    assert largest_difference(run / LAST, uninterrupted / LAST) == 0
    assert metrics_of(run) == metrics_of(uninterrupted)


def test_a_stop_during_validation_validates_again(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        original = Trainer._validate

        def interrupted(self: Trainer, *arguments: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            original(self, *arguments)  # type: ignore[arg-type]

        patch.setattr(Trainer, "_validate", interrupted)
        assert not train(experiment_file, output_dir=run)
    assert [row["step"] for row in metrics_of(run)] == [4]
    train(experiment_file, output_dir=run, resume="latest")
    assert metrics_of(run) == metrics_of(uninterrupted)
    assert largest_difference(run / LAST, uninterrupted / LAST) == 0


def test_resuming_a_finished_run_does_nothing(uninterrupted: Path, experiment_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    before = (run / LAST / "manifest.json").read_bytes()
    assert train(experiment_file, output_dir=run, resume="latest")
    assert (run / LAST / "manifest.json").read_bytes() == before
    assert metrics_of(run) == metrics_of(uninterrupted)


def test_a_finished_run_can_be_made_longer(uninterrupted: Path, experiment_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    train(experiment_file, output_dir=run, resume=str(run / LAST), overrides=("training.max_steps=17",))
    assert list_checkpoints(run)[-1].name == "checkpoint-17"


def test_a_run_that_is_there_is_not_overwritten(uninterrupted: Path, experiment_file: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in uninterrupted.rglob("*"))
    with pytest.raises(UserError, match="holds a run already"):
        train(experiment_file, output_dir=uninterrupted)
    assert sorted(path.stat().st_mtime_ns for path in uninterrupted.rglob("*")) == before


def test_a_checkpoint_of_another_architecture_is_refused(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="of another architecture"):
        train(
            experiment_file,
            output_dir=tmp_path,
            resume=str(uninterrupted / LAST),
            overrides=("model.architecture.attention_head_dim=16",),
        )


def test_an_average_switched_on_later_starts_from_the_weights(experiment_file: Path, tmp_path: Path) -> None:
    off = ("training.max_steps=3", "training.ema.enabled=false")
    train(experiment_file, output_dir=tmp_path / "run", overrides=off)
    train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=("training.max_steps=4",))
    assert (tmp_path / "run" / "checkpoint-4" / "ema.safetensors").is_file()
