"""An interrupted and resumed run is bit-identical to an uninterrupted one."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from signal_diffusion.checkpoints import list_checkpoints
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.training import state
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.stopping import Stopped
from signal_diffusion.training.trainer import Trainer
from tests.training.runs import largest_difference, metrics_of

LAST = "checkpoint-15"


@pytest.fixture(scope="module")
def uninterrupted(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uninterrupted"
    assert train(experiment_file, output_dir=run)
    return run


def killed_after(step: int, uninterrupted: Path, run: Path) -> Path:
    """A run as a kill shortly before `step` + 3 leaves it: checkpoints up to `step`, and later metrics."""
    run.mkdir()
    shutil.copytree(uninterrupted / f"checkpoint-{step}", run / f"checkpoint-{step}")
    rows = (uninterrupted / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text(
        "".join(rows[: len([r for r in rows if int(r.split(",")[0].split(":")[1]) < step + 3])])
    )
    return run


@pytest.mark.parametrize("step", [1, 5, 6, 7, 8, 11, 14], ids=lambda step: f"step {step} of epochs of 6")
def test_resume_is_bit_identical_in_mid_epoch_and_at_its_ends(
    step: int, uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    run = killed_after(step, uninterrupted, tmp_path / "run")
    train(experiment_file, output_dir=run, resume="latest")
    assert largest_difference(run / LAST, uninterrupted / LAST) == 0
    assert metrics_of(run) == metrics_of(uninterrupted)


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals) -> None:
    original = Trainer.take_step

    def with_signal(self: Trainer, now: int, *arguments: object) -> object:
        if now == step:
            os.kill(os.getpid(), number)
        return original(self, now, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "take_step", with_signal)


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


def test_a_stop_during_the_last_validation_does_not_finish_the_run(
    uninterrupted: Path,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, original = tmp_path / "run", Trainer._validate
    shutil.copytree(uninterrupted / "checkpoint-14", run / "checkpoint-14")

    def interrupted(self: Trainer, *arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        original(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_validate", interrupted)
        assert not train(experiment_file, output_dir=run, resume="latest")
    printed = capsys.readouterr().err
    assert "paused at step 15 of 15" in printed and "resume      uv run python -m " in printed

    for _ in range(2):
        assert train(experiment_file, output_dir=run, resume="latest")
        assert [row["step"] for row in metrics_of(run) if "validation/loss" in row] == [15]
    assert state.Progress.of(run / LAST) == state.Progress.of(uninterrupted / LAST)


def test_a_best_checkpoint_that_was_deleted_is_forgotten(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = killed_after(5, uninterrupted, tmp_path / "run")
    assert state.Progress.of(run / "checkpoint-5").best_step == 4
    overrides = ("training.validation.enabled=false", "training.max_steps=6")
    train(experiment_file, output_dir=run, resume="latest", overrides=overrides)
    assert state.Progress.of(run / "checkpoint-6").best_step is None
    assert "best  " not in capsys.readouterr().err


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


def test_an_existing_run_is_not_overwritten(uninterrupted: Path, experiment_file: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in uninterrupted.rglob("*"))
    with pytest.raises(UserError, match="already contains a run"):
        train(experiment_file, output_dir=uninterrupted)
    assert sorted(path.stat().st_mtime_ns for path in uninterrupted.rglob("*")) == before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.architecture.attention_head_dim=16", "[model.architecture] attention_head_dim: 16, but "),
        ("model.architecture.patch_size=[8, 32]", "[model.architecture] patch_size: [8, 32], but "),  # as many weights
        ("model.diffusion.method=ddpm", "[model.diffusion] method: 'ddpm', but "),
        ("model.diffusion.prediction=epsilon", "[model.diffusion] prediction: 'epsilon', but "),
        ("model.conditioning.type=none", "[model.conditioning] type: 'none', but "),
        ("data.columns.label=gender", "[model.conditioning] attributes: 'label (female, male)', but "),
    ],
)
def test_resume_is_refused_if_the_weights_would_change_their_meaning(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path, override: str, expected: str
) -> None:
    checkpoint = uninterrupted / LAST
    with pytest.raises(UserError) as caught:
        train(experiment_file, output_dir=tmp_path, resume=str(checkpoint), overrides=(override,))
    assert any(expected in line and str(checkpoint) in line for line in caught.value.lines)
    assert not (tmp_path / "config.toml").exists()


def test_starting_from_weights_that_would_change_their_meaning_is_refused(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    overrides = (f"model.pretrained={uninterrupted / LAST}", "model.architecture.patch_size=[8, 32]")
    for act in (
        lambda: train(experiment_file, output_dir=tmp_path, overrides=overrides),
        lambda: inspect(resolve(load_experiment(experiment_file, overrides))),
    ):
        with pytest.raises(UserError) as caught:
            act()
        assert "[model.architecture] patch_size: [8, 32], but " in caught.value.lines[0]


def test_settings_that_keep_the_meaning_of_weights_may_change(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    changed = ("model.architecture.dropout_rate=0", "model.conditioning.cfg_dropout=0.2", "training.max_steps=16")
    assert train(experiment_file, output_dir=tmp_path, resume=str(uninterrupted / LAST), overrides=changed)


def test_an_average_enabled_on_resuming_starts_from_the_weights(experiment_file: Path, tmp_path: Path) -> None:
    off = ("training.max_steps=3", "training.ema.enabled=false")
    train(experiment_file, output_dir=tmp_path / "run", overrides=off)
    train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=("training.max_steps=4",))
    assert (tmp_path / "run" / "checkpoint-4" / "ema.safetensors").is_file()


def test_resuming_from_an_earlier_step_removes_later_checkpoints(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    overrides = ("training.max_steps=8", "training.checkpointing.total_limit=2", "training.validation.enabled=false")
    train(experiment_file, output_dir=run, resume=str(run / "checkpoint-5"), overrides=overrides)
    assert [path.name for path in list_checkpoints(run)][-2:] == ["checkpoint-7", "checkpoint-8"]
    assert metrics_of(run)[-1]["step"] == 8


def test_resume_with_another_dataset_is_refused(uninterrupted: Path, experiment_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    prepare_synthetic(other, "db-only", SyntheticOptions(num_subjects=5, num_windows=2, seed=1))
    with pytest.raises(UserError, match="was trained on"):
        train(
            experiment_file,
            output_dir=tmp_path / "run",
            resume=str(uninterrupted / "checkpoint-5"),
            overrides=(f"data.paths.root={other}",),
        )


def test_optimizer_settings_of_the_experiment_apply_after_a_resume(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    resume = str(uninterrupted / "checkpoint-5")
    overrides = ("training.max_steps=6", "training.optimizer.weight_decay=0.5", "training.optimizer.betas=[0.5, 0.6]")
    train(experiment_file, output_dir=tmp_path / "a", resume=resume, overrides=overrides)
    saved = torch.load(tmp_path / "a" / "checkpoint-6" / "optimizer.pt", weights_only=True)
    assert [group["weight_decay"] for group in saved["param_groups"]] == [0.5, 0.0]
    assert {group["betas"] for group in saved["param_groups"]} == {(0.5, 0.6)}
    with pytest.raises(UserError, match=r"\[training.optimizer\] type: 'sgd'"):
        train(experiment_file, output_dir=tmp_path / "b", resume=resume, overrides=("training.optimizer.type=sgd",))


def test_a_run_resumed_at_its_end_in_another_directory_writes_its_checkpoint_there(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path
) -> None:
    train(experiment_file, output_dir=tmp_path / "run", resume=str(uninterrupted / LAST))
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == [LAST]
    with pytest.raises(UserError, match="already contains a run"):
        train(experiment_file, output_dir=tmp_path / "run", resume=str(uninterrupted / "checkpoint-5"))


def test_a_stop_before_the_first_step_can_be_resumed(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:

        def interrupted(self: Trainer, *arguments: object) -> None:
            raise Stopped

        patch.setattr(Trainer, "_train", interrupted)
        assert not train(experiment_file, output_dir=run)
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-0"]
    train(experiment_file, output_dir=run, resume="latest")
    assert largest_difference(run / LAST, uninterrupted / LAST) == 0
    assert metrics_of(run) == metrics_of(uninterrupted)


def test_a_run_without_validation_needs_no_validation_split(experiment_file: Path, tmp_path: Path) -> None:
    prepare_synthetic(tmp_path / "one", "db-only", SyntheticOptions(num_subjects=1, num_windows=2))
    overrides = (f"data.paths.root={tmp_path / 'one'}", "training.max_steps=1", "training.validation.enabled=false")
    assert train(experiment_file, output_dir=tmp_path / "run", overrides=overrides)
    with pytest.raises(UserError, match=r"has no split 'validation'.*training.validation.enabled"):
        train(experiment_file, output_dir=tmp_path / "other", overrides=overrides[:2])


def test_latest_is_of_this_run_even_if_a_later_checkpoint_of_another_seed_was_put_there(
    uninterrupted: Path, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, run = tmp_path / "other", killed_after(5, uninterrupted, tmp_path / "run")
    train(experiment_file, output_dir=other, overrides=("compute.seed=9", "training.max_steps=8"))
    shutil.copytree(other / "checkpoint-8", run / "checkpoint-8")
    assert train(experiment_file, output_dir=run, resume="latest")
    printed = capsys.readouterr()
    assert "checkpoint-8 was trained with 9; it may be of another run; trying an earlier one" in printed.out
    assert "kept as kept-checkpoint-8" in printed.err
    assert largest_difference(run / LAST, uninterrupted / LAST) == 0
    assert largest_difference(run / "kept-checkpoint-8", other / "checkpoint-8") == 0
