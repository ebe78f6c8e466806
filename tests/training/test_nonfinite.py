"""Runs whose gradients, weights or validation are not finite: what stops them, and from where they can go on."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError
from signal_diffusion.training import running
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.state import Progress
from signal_diffusion.training.stopping import StopRequest
from signal_diffusion.training.trainer import Trainer
from signal_diffusion.training.validation import Validation
from tests.training.poison import poison
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of, tensors_of

QUIET = ("training.validation.enabled=false",)
ROLLBACK, SKIP = "training.on_nonfinite=rollback", "training.on_nonfinite=skip"


def names_of(run: Path) -> list[str]:
    return [path.name for path in checkpoints.list_checkpoints(run)]


def all_finite(checkpoint: Path) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in tensors_of(checkpoint).values())


def test_a_gradient_that_is_not_finite_says_where_and_how_many(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer._clip

    def damaged(self: Trainer, step: int, **named: torch.Tensor) -> torch.Tensor:
        for name, weight in self.model.named_parameters():
            if step == 3 and name.startswith("layers.1.") and weight.grad is not None:
                weight.grad.view(-1)[0] = math.inf
        return original(self, step, **named)

    monkeypatch.setattr(Trainer, "_clip", damaged)
    with pytest.raises(UserError) as caught:
        train(experiment_file, output_dir=tmp_path, overrides=QUIET)
    assert str(caught.value) == (
        "the gradient of step 3 was not finite (12 of 35 tensors, first layers.1.query_norm; the loss was finite), so "
        f"the step was skipped; the last good checkpoint is {tmp_path}/checkpoint-2: resume from it, and "
        'lower training.optimizer.learning_rate or set training.on_nonfinite = "rollback"'
    )


@pytest.mark.parametrize("mode", ["stop", "skip"])
def test_weights_that_are_not_finite_are_never_written_and_end_the_run(
    mode: str, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Trainer.take_step

    def damaging(self: Trainer, step: int, *arguments: object) -> object:
        norm = original(self, step, *arguments)  # type: ignore[arg-type]
        if step == 6:
            self.model.get_parameter("layers.0.mlp.0.bias").data[:3] = math.nan
        return norm

    monkeypatch.setattr(Trainer, "take_step", damaging)
    with pytest.raises(
        UserError, match=r"after step 7, weights are not finite: .*first layers.0.mlp.0.bias "
    ) as caught:
        train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, f"training.on_nonfinite={mode}"))
    assert "(3 of " in str(caught.value) and f"the last good checkpoint is {tmp_path}/checkpoint-6" in str(caught.value)
    assert names_of(tmp_path)[-1] == "checkpoint-6" and all_finite(tmp_path / "checkpoint-6")


def test_a_checkpoint_with_weights_that_are_not_finite_is_not_resumed_from(
    experiment_file: Path, tmp_path: Path
) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, "training.max_steps=2"))
    damaged = tmp_path / "checkpoint-2"
    weights = load_file(damaged / checkpoints.EMA_WEIGHTS)
    first = next(iter(weights))
    weights[first].view(-1)[:5] = math.inf
    save_file(weights, damaged / checkpoints.EMA_WEIGHTS)
    files = [path.name for path in damaged.iterdir() if path.name != checkpoints.MANIFEST]
    checkpoints.write_manifest(damaged, 2, files)
    expected = re.escape(f"{damaged}: weights are not finite: 1 of ") + rf".*first ema.{first} \(5 of "
    with pytest.raises(UserError, match=expected + ".*resume from an earlier checkpoint"):
        train(experiment_file, output_dir=tmp_path, resume="latest", overrides=QUIET)


def test_a_good_checkpoint_is_one_whose_validation_was_finite_and_it_is_kept(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best one, of step 2, is kept as well; validation is not finite from step 6 on."""
    losses = iter((1.0, 1.0, 2.0, 2.0, *[math.nan] * 20))
    monkeypatch.setattr(Validation, "__call__", lambda *arguments: {"loss": next(losses)})
    poison(monkeypatch, 10)
    overrides = ("training.checkpointing.total_limit=2", "training.validation.interval=2")
    with pytest.raises(UserError, match=r"step 11 .*the last good checkpoint is .*/checkpoint-5: resume from it"):
        train(experiment_file, output_dir=tmp_path, overrides=overrides)
    assert names_of(tmp_path) == ["checkpoint-2", "checkpoint-5", "checkpoint-9", "checkpoint-10"]
    assert Progress.of(tmp_path / "checkpoint-10").good_step == 5


def test_skipping_ends_after_twenty_steps_in_a_row_also_over_a_resume(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*QUIET, SKIP, "training.checkpointing.interval=0", "training.max_steps=40")
    poison(monkeypatch, *range(2), *range(3, 40))
    train(experiment_file, output_dir=tmp_path, overrides=(*overrides, "training.max_steps=15"))
    with pytest.raises(UserError, match=r"the last 21 steps up to step 24 were skipped, as no gradient was finite"):
        train(experiment_file, output_dir=tmp_path, resume="latest", overrides=overrides)
    assert [row["train/skipped_steps"] for row in metrics_of(tmp_path)] == [3, 7, 11, 14, 15, 19]


def test_a_scaler_that_skips_every_step_ends_the_run(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses stay finite; the scaler is fp16's, on the CPU, where Accelerate does not use one."""
    accelerator_of, clip = running.accelerator_of, Trainer._clip

    def with_scaler(*arguments: object) -> object:
        accelerator = accelerator_of(*arguments)  # type: ignore[arg-type]
        accelerator.scaler = torch.amp.GradScaler("cpu")
        return accelerator

    def overflowing(self: Trainer, step: int, **named: torch.Tensor) -> torch.Tensor:
        for weight in self.model.parameters():
            if weight.grad is not None:
                weight.grad.fill_(math.inf)
        return clip(self, step, **named)

    monkeypatch.setattr(running, "accelerator_of", with_scaler)
    monkeypatch.setattr(Trainer, "_clip", overflowing)
    overrides = (*QUIET, "training.max_steps=40", "training.checkpointing.interval=0")
    with pytest.raises(UserError, match="the last 24 steps up to step 24 were skipped, as no gradient was finite"):
        train(experiment_file, output_dir=tmp_path, overrides=overrides)
    rows = metrics_of(tmp_path)
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20] and all(row["train/loss"] < 10 for row in rows)


@pytest.fixture(scope="module")
def rolled_back(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that went back from step 8, where it noticed that step 7 was not finite, to the checkpoint of step 6."""
    run = tmp_path_factory.mktemp("runs") / "rolled-back"
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, 6)
        assert train(experiment_file, output_dir=run, overrides=(ROLLBACK,))
    return run


def test_a_rollback_removes_what_came_after_the_checkpoint_and_reaches_the_end(rolled_back: Path) -> None:
    assert [row["step"] for row in metrics_of(rolled_back)] == [4, 4, 8, 8, 12, 12, 15, 15]  # losses and validations
    assert names_of(rolled_back) == [f"checkpoint-{step}" for step in range(1, 16)]
    assert all(all_finite(path) for path in checkpoints.list_checkpoints(rolled_back))
    assert [Progress.of(rolled_back / f"checkpoint-{step}").rollbacks for step in (6, 7, 15)] == [0, 1, 1]


def test_only_after_a_rollback_is_a_run_another_than_without(
    rolled_back: Path, experiment_file: Path, tmp_path: Path
) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(ROLLBACK,))
    plain = checkpoints.list_checkpoints(tmp_path)[:7]
    difference = [largest_difference(path, rolled_back / path.name) for path in plain]
    assert difference[:6] == [0] * 6 and difference[6] > 0


@pytest.mark.parametrize("step", [5, 6, 10])
def test_a_run_with_a_rollback_resumes_to_the_bit_before_and_after_it(
    step: int,
    rolled_back: Path,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(rolled_back / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    shutil.copy(rolled_back / "metrics.jsonl", tmp_path)
    poison(monkeypatch, 6)
    train(experiment_file, output_dir=tmp_path, resume="latest", overrides=(ROLLBACK,))
    line = f"going on from {tmp_path}/checkpoint-6 with other noise (rollback 1 of at most 3)"
    assert (line in capsys.readouterr().err) == (step < 7)
    assert largest_difference(tmp_path / "checkpoint-15", rolled_back / "checkpoint-15") == 0
    assert metrics_of(tmp_path) == metrics_of(rolled_back)
    assert Progress.of(tmp_path / "checkpoint-15") == Progress.of(rolled_back / "checkpoint-15")


def test_a_run_goes_back_three_times_and_then_ends(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, 6, after_rollbacks=range(4))
    with pytest.raises(UserError, match=r"step 7 .*checkpoint-6: .*\(the run went back 3 times\)$"):
        train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, ROLLBACK))
    printed = capsys.readouterr().err
    assert [f"rollback {number} of at most 3" in printed for number in (1, 2, 3, 4)] == [True, True, True, False]


def stop_at_step_7(monkeypatch: pytest.MonkeyPatch) -> None:
    poll, polls = StopRequest.poll, iter(range(1, 100))
    monkeypatch.setattr(StopRequest, "poll", lambda self: next(polls) >= 7 or poll(self))


@pytest.mark.parametrize(
    ("more", "prepare", "expected"),
    [
        (
            ("training.checkpointing.interval=0",),
            lambda patch: None,
            "there is no good checkpoint yet: restart",
        ),
        (
            ("training.log_interval=10",),
            stop_at_step_7,
            "step 7 .* the last good checkpoint is .*/checkpoint-6",
        ),
    ],
    ids=["no checkpoint", "stopped"],
)
def test_a_run_does_not_go_back_without_a_good_checkpoint_or_after_a_stop(
    more: tuple[str, ...],
    prepare: Callable[[pytest.MonkeyPatch], None],
    expected: str,
    experiment_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poison(monkeypatch, 6)
    prepare(monkeypatch)
    with pytest.raises(UserError, match=expected):
        train(experiment_file, output_dir=tmp_path, overrides=(*QUIET, ROLLBACK, *more))


def test_a_rollback_needs_the_state_of_the_optimizer(experiment_file: Path, tmp_path: Path) -> None:
    overrides = (ROLLBACK, "training.checkpointing.save_optimizer=false")
    with pytest.raises(UserError, match=r"on_nonfinite: 'rollback' resumes from a checkpoint, but .*save_optimizer is"):
        train(experiment_file, output_dir=tmp_path, overrides=overrides)


def train_poisoned(experiment_file: Path, run: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        poison(patch, 6)
        assert train(experiment_file, output_dir=run, overrides=(ROLLBACK, "training.max_steps=9"))


@pytest.mark.processes
def test_two_processes_go_back_together(experiment_file: Path, tmp_path: Path) -> None:
    finished = two_processes(train_poisoned, experiment_file, tmp_path)
    assert finished.exit_codes == [0, 0], finished.output
    assert finished.output.count("rollback 1 of at most 3") == 1 and "the loss of 4 of 4 batches" in finished.output
    assert names_of(tmp_path)[-1] == "checkpoint-9" and Progress.of(tmp_path / "checkpoint-9").rollbacks == 1
