"""Resetting optimizer, schedule or best checkpoint on resuming, and what is kept nevertheless."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from signal_diffusion.checkpoints import list_checkpoints
from signal_diffusion.cli.config import check
from signal_diffusion.config.schema import Optimizer, Scheduler, Training
from signal_diffusion.errors import UserError
from signal_diffusion.training import state
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.optimizers import LearningRate, learning_rate_schedule
from signal_diffusion.training.validation import Validation
from tests.training.runs import largest_difference, metrics_of

QUIET = ("training.validation.enabled=false",)


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first"
    train(experiment_file, output_dir=folder, overrides=(*QUIET, "training.max_steps=5"))
    return folder


@pytest.fixture(scope="module")
def run_without_state(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "weights"
    overrides = (*QUIET, "training.max_steps=5", "training.checkpointing.save_optimizer=false")
    train(experiment_file, output_dir=folder, overrides=overrides)
    return folder


def steps_of_optimizer(checkpoint: Path) -> set[float]:
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)["state"]
    return {float(each["step"]) for each in state.values()}


def test_resetting_the_optimizer_keeps_weights_average_and_step(
    run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    before, reset = run / "checkpoint-5", "training.resume.reset_optimizer=true"
    overrides = (*QUIET, "training.max_steps=6", "training.optimizer.learning_rate=1e-30", reset)

    train(experiment_file, output_dir=tmp_path, resume=str(before), overrides=overrides)

    after = tmp_path / "checkpoint-6"
    assert steps_of_optimizer(before) == {5.0} and steps_of_optimizer(after) == {1.0}
    weights, same = (load_file(folder / "model.safetensors") for folder in (before, after))
    assert all(torch.allclose(weights[name], same[name], rtol=0, atol=1e-20) for name in weights)
    updates = [json.loads((folder / "progress.json").read_text())["ema_updates"] for folder in (before, after)]
    assert updates == [2, 3]


def test_a_checkpoint_without_optimizer_state_resumes_with_reset_optimizer(
    run_without_state: Path, experiment_file: Path, tmp_path: Path
) -> None:
    checkpoint, longer = run_without_state / "checkpoint-5", (*QUIET, "training.max_steps=7")
    assert not (checkpoint / "optimizer.pt").exists()

    with pytest.raises(UserError, match=r"has no optimizer.pt .*set training.resume.reset_optimizer = true"):
        train(experiment_file, output_dir=tmp_path / "refused", resume=str(checkpoint), overrides=longer)
    reset = (*longer, "training.resume.reset_optimizer=true")
    assert train(experiment_file, output_dir=tmp_path / "run", resume=str(checkpoint), overrides=reset)

    assert steps_of_optimizer(tmp_path / "run" / "checkpoint-7") == {2.0}


def test_another_optimizer_type_resumes_only_with_reset_optimizer(
    run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    overrides = (*QUIET, "training.max_steps=6", "training.optimizer.type=sgd", "training.optimizer.betas=[0.5, 0.9]")
    resume = str(run / "checkpoint-5")

    with pytest.raises(UserError, match=r"\[training.optimizer\] type: 'sgd'.*training.resume.reset_optimizer = true"):
        train(experiment_file, output_dir=tmp_path / "refused", resume=resume, overrides=overrides)
    reset = (*overrides, "training.resume.reset_optimizer=true")
    train(experiment_file, output_dir=tmp_path / "run", resume=resume, overrides=reset)

    saved = torch.load(tmp_path / "run" / "checkpoint-6" / "optimizer.pt", weights_only=True)
    assert {group["momentum"] for group in saved["param_groups"]} == {0.5}
    assert json.loads((tmp_path / "run" / "checkpoint-6" / "progress.json").read_text())["optimizer"] == "sgd"


def test_a_reset_schedule_spans_the_remaining_steps(run: Path, experiment_file: Path, tmp_path: Path) -> None:
    overrides = (*QUIET, "training.log_interval=1", "training.resume.reset_scheduler=true")

    train(experiment_file, output_dir=tmp_path, resume=str(run / "checkpoint-5"), overrides=overrides)

    share = learning_rate_schedule(Scheduler(), num_steps=10, steps_per_epoch=6)
    rates = [row["train/learning_rate"] for row in metrics_of(tmp_path)]
    assert rates == [1e-2 * share(step) for step in range(10)]
    assert rates[0] == pytest.approx(1e-5) and rates[1] == 1e-2 and rates[-1] < 1e-3
    assert steps_of_optimizer(tmp_path / "checkpoint-15") == {15.0}


def test_a_run_with_resets_is_bit_identical_after_the_next_resume(
    run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    reset, again = tmp_path / "reset", tmp_path / "again"
    resets = ("training.resume.reset_optimizer=true", "training.resume.reset_scheduler=true")
    train(experiment_file, output_dir=reset, resume=str(run / "checkpoint-5"), overrides=(*QUIET, *resets))
    again.mkdir()
    shutil.copytree(reset / "checkpoint-9", again / "checkpoint-9")

    train(reset / "config.toml", output_dir=again, resume="latest")  # the run's own experiment file

    assert largest_difference(again / "checkpoint-15", reset / "checkpoint-15") == 0
    assert steps_of_optimizer(again / "checkpoint-15") == {10.0}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (("training.max_steps=30",), ["learning rate: 1.05e-03 in step 5 of 5, 9.87e-03 in step 6 of now 30"]),
        (
            ("training.optimizer.learning_rate=2e-3", "training.max_steps=6"),
            ["learning rate: 1.05e-03 in step 5 of 5, 1.53e-04 in step 6 of now 6"],
        ),
        (("training.max_steps=5",), []),
    ],
    ids=["longer", "another rate", "as before"],
)
def test_a_longer_run_or_another_schedule_says_the_learning_rate_before_and_after(
    changed: tuple[str, ...],
    expected: list[str],
    run: Path,
    experiment_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By hand: peak × (0.01 + 0.99 (1 + cos πp) / 2), at p = 4/5 before, and 2/27 (after 3 steps of warm-up) or 5/6."""
    train(experiment_file, output_dir=tmp_path, resume=str(run / "checkpoint-5"), overrides=(*QUIET, *changed))
    printed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("learning rate: ")]
    assert printed == expected


def test_other_training_examples_after_resuming_are_said(
    run: Path, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = ("training.max_steps=6", "data.augmentation.gaussian_noise_std=0.1", 'data.balancing.columns=["label"]')
    train(experiment_file, output_dir=tmp_path, resume=str(run / "checkpoint-5"), overrides=(*QUIET, *changed))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "training examples from" in line]
    assert line == (
        "other training examples from step 5 on: [data.augmentation] gaussian_noise_std was 0.0, now 0.1, "
        "[data.balancing] columns was (), now ('label',)"
    )


def test_config_check_compares_the_experiment_with_the_checkpoint_to_resume_from(
    run: Path, experiment_file: Path
) -> None:
    def overrides(name: str) -> list[str]:
        return ["training.resume.enabled=true", f"training.resume.checkpoint={run / name}"]

    check([experiment_file], overrides("checkpoint-5"))
    with pytest.raises(UserError, match=r"checkpoint-9: no such checkpoint; there are checkpoint-1, "):
        check([experiment_file], overrides("checkpoint-9"))
    with pytest.raises(UserError, match=r"\[model.diffusion\] method: 'ddpm', but .*checkpoint-5 was trained with"):
        check([experiment_file], [*overrides("checkpoint-5"), "model.diffusion.method=ddpm"])


@pytest.mark.parametrize("key", ["reset_optimizer", "reset_scheduler"])
def test_a_reset_without_resuming_is_refused(key: str, experiment_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"tiny.toml: \[training.resume\] {key}: has no effect"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=(f"training.resume.{key}=true",))
    assert not (tmp_path / "run").exists()


def test_plateau_decays_are_restored_or_reset() -> None:
    training = Training(
        scheduler=Scheduler(type="plateau", patience=0, warmup_steps=0, gamma=0.1),
        optimizer=Optimizer(learning_rate=1.0),
    )
    before, resumed, fresh = (LearningRate(training, num_steps=100, steps_per_epoch=10) for _ in range(3))
    before.validated(1.0)
    before.validated(2.0)

    resumed.resume(0, before.state_dict())
    fresh.resume(50, None)

    assert [rate(60) for rate in (before, resumed, fresh)] == pytest.approx([0.1, 0.1, 1.0])
    resumed.validated(0.5)
    resumed.validated(0.75)
    assert resumed(60) == pytest.approx(0.01)


def plateau(**settings: object) -> LearningRate:
    scheduler = Scheduler(type="plateau", warmup_steps=0, **settings)  # type: ignore[arg-type]
    training = Training(scheduler=scheduler, optimizer=Optimizer(learning_rate=1.0))
    return LearningRate(training, num_steps=100, steps_per_epoch=10)


def test_a_resumed_plateau_uses_the_settings_of_the_new_experiment() -> None:
    before = plateau(patience=10, gamma=0.1, min_lr_ratio=0.01)
    now = plateau(patience=0, gamma=0.5, min_lr_ratio=0.2)
    before.validated(1.0)
    now.resume(0, before.state_dict())

    rates = []
    for loss in (0.5, 1.0, 1.0, 1.0):
        now.validated(loss)
        rates.append(now(60))
    assert rates == pytest.approx([1.0, 0.5, 0.25, 0.2])


def test_a_rate_decayed_below_a_new_minimum_is_raised_to_it() -> None:
    before, now = plateau(patience=0, gamma=0.1, min_lr_ratio=0.01), plateau(patience=0, gamma=0.1, min_lr_ratio=0.2)
    for loss in (1.0, 2.0):
        before.validated(loss)
    now.resume(0, before.state_dict())
    assert [before(60), now(60)] == pytest.approx([0.1, 0.2])


def test_a_plateau_that_forgets_its_best_keeps_its_decays() -> None:
    rate = plateau(patience=0, gamma=0.1, min_lr_ratio=0.0)
    for loss in (1.0, 2.0):
        rate.validated(loss)
    rate.forget_best()
    rate.validated(3.0)
    assert rate(60) == pytest.approx(0.1)
    rate.validated(4.0)
    assert rate(60) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("data.paths.val=test", "training.validation.num_examples=4"), "num_examples, [data.paths] val"),
        (("training.validation.metric=loss",), "[training.validation] metric"),
        (("model.diffusion.time_sampling=uniform",), "[model.diffusion] time_sampling"),
        (("model.diffusion.loss=x0",), "[model.diffusion] loss"),
        ((), ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_the_best_checkpoint_is_forgotten_if_validation_has_changed(
    changed: tuple[str, ...],
    message: str,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    losses = iter((1.0, 1.0, 2.0, 2.0))  # of the weights and their average, at steps 2 and 3
    monkeypatch.setattr(Validation, "__call__", lambda *arguments: {"loss": next(losses)})
    overrides = ("training.validation.interval=2", "training.max_steps=2")
    train(experiment_file, output_dir=tmp_path, overrides=overrides)

    train(experiment_file, output_dir=tmp_path, resume="latest", overrides=("training.max_steps=3", *changed))

    progress = json.loads((tmp_path / "checkpoint-3" / "progress.json").read_text())
    assert (progress["best_step"], progress["best_value"]) == ((3, 2.0) if changed else (2, 1.0))
    printed = capsys.readouterr().err
    assert ("the best checkpoint so far is forgotten at step 2" in printed) == bool(changed) and message in printed


def test_with_save_best_only_each_checkpoint_was_the_best_when_written(experiment_file: Path, tmp_path: Path) -> None:
    overrides = ("training.checkpointing.save_best_only=true", "training.validation.interval=2")

    train(experiment_file, output_dir=tmp_path, overrides=overrides)

    losses = {row["step"]: row["validation/ema_loss"] for row in metrics_of(tmp_path) if "validation/ema_loss" in row}
    records = [step for step in losses if losses[step] == min(losses[before] for before in losses if before <= step)]
    saved = [int(path.name.split("-")[1]) for path in list_checkpoints(tmp_path)]
    assert list(losses) == [2, 4, 6, 8, 10, 12, 14, 15]
    assert saved == sorted({*records, 15})


def test_until_the_next_step_the_learning_rate_is_that_of_the_last_one(tmp_path: Path) -> None:
    def optimizer(**settings: float) -> torch.optim.Optimizer:
        weight = torch.nn.Parameter(torch.ones(3))
        weight.grad = torch.ones(3)
        return torch.optim.AdamW([weight], **settings)

    saved = optimizer(lr=0.02, weight_decay=0.5)
    saved.step()
    torch.save(saved.state_dict(), tmp_path / state.OPTIMIZER)
    resumed = optimizer(lr=0.1, weight_decay=0.25)

    state.resume_optimizer(resumed, "adamw", tmp_path, "adamw")

    [group] = resumed.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.25)
