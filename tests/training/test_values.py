"""What people read of a run, in metrics.jsonl and TensorBoard, is what can be computed by hand from its steps."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from signal_diffusion.diffusion.methods import Method
from signal_diffusion.training import trainer
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.trainer import Trainer
from signal_diffusion.training.validation import Validation

ROWS = (4, 8, 12, 15)
CLIP = 0.02
OVERRIDES = (
    "training.optimizer.type=sgd",
    "training.optimizer.betas=[0.0, 0.9]",
    "training.optimizer.weight_decay=0",
    f"training.optimizer.gradient_clip_norm={CLIP}",
    "training.validation.batch_size=8",
    "logging.tensorboard=true",
)


@dataclass
class Recorded:
    """A run of 15 steps of 2 batches of 8 examples, and what happened in it."""

    folder: Path
    losses: list[float] = field(default_factory=list)
    """Of each batch."""
    norms: list[float] = field(default_factory=list)
    """Of the gradient of each step, before it was clipped."""
    validated: list[np.ndarray] = field(default_factory=list)
    """The loss of each example of each batch."""

    def rows(self, name: str) -> dict[int, dict[str, float]]:
        rows = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return {row["step"]: row for row in rows if name in row}

    def weights(self, step: int) -> torch.Tensor:
        tensors = load_file(self.folder / f"checkpoint-{step}" / "model.safetensors")
        return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Steps take half a second each, and what is due between them a hundred, by a clock of its own."""
    recorded, now = Recorded(tmp_path_factory.mktemp("runs") / "recorded"), [0.0]
    step, due, clip, loss, batch = (
        Trainer.take_step,
        Trainer._due_after_step,
        Trainer._clip,
        Method.loss,
        Validation._batch,
    )

    def timed_step(self: Trainer, *arguments: object) -> torch.Tensor:
        now[0] += 0.5
        return step(self, *arguments)  # type: ignore[arg-type]

    def timed_due(self: Trainer, *arguments: object) -> None:
        now[0] += 100.0
        due(self, *arguments)  # type: ignore[arg-type]

    def recorded_clip(self: Trainer, *arguments: object, **named: object) -> torch.Tensor:
        gradients = [
            weight.grad.double().square().sum() for weight in self.model.parameters() if weight.grad is not None
        ]
        recorded.norms.append(math.sqrt(sum(gradients)))
        return clip(self, *arguments, **named)  # type: ignore[arg-type]

    def recorded_loss(self: Method, *arguments: torch.Tensor) -> torch.Tensor:
        losses = loss(self, *arguments)
        if losses.requires_grad:
            recorded.losses.append(losses.double().mean().item())
        return losses

    def recorded_batch(self: Validation, *arguments: object) -> torch.Tensor:
        losses = batch(self, *arguments)  # type: ignore[arg-type]
        recorded.validated.append(losses.double().numpy())
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: now[0]))
        patch.setattr(Trainer, "take_step", timed_step)
        patch.setattr(Trainer, "_due_after_step", timed_due)
        patch.setattr(Trainer, "_clip", recorded_clip)
        patch.setattr(Method, "loss", recorded_loss)
        patch.setattr(Validation, "_batch", recorded_batch)
        train(experiment_file, output_dir=recorded.folder, overrides=OVERRIDES)
    return recorded


def test_the_training_loss_is_the_mean_over_the_batches_since_the_last_row(run: Recorded) -> None:
    batches = {4: (0, 8), 8: (8, 16), 12: (16, 24), 15: (24, 30)}
    expected = {step: np.mean(run.losses[first:last]) for step, (first, last) in batches.items()}
    found = {step: row["train/loss"] for step, row in run.rows("train/loss").items()}
    assert found == pytest.approx(expected, rel=1e-6) and len(set(found.values())) == 4


def test_the_gradient_norm_is_that_of_the_last_step_before_clipping(run: Recorded) -> None:
    expected = {step: run.norms[step - 1] for step in ROWS}
    found = {step: row["train/grad_norm"] for step, row in run.rows("train/loss").items()}
    assert found == pytest.approx(expected, rel=1e-5) and min(found.values()) > CLIP


def by_hand(step: int) -> float:
    """The learning rate of a step, from 1: one step of warm-up from 0.1 %, then a cosine to 1 % over 14."""
    return 1e-5 if step == 1 else 1e-2 * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - 2) / 14)))


def test_the_learning_rate_is_that_of_the_last_step(run: Recorded) -> None:
    found = {step: row["train/learning_rate"] for step, row in run.rows("train/loss").items()}
    assert found == pytest.approx({step: by_hand(step) for step in ROWS}, rel=1e-12)


def test_weights_move_by_the_learning_rate_times_the_clipped_gradient(run: Recorded) -> None:
    moved = {step: (run.weights(step) - run.weights(step - 1)).norm().item() for step in range(2, 16)}
    assert moved == pytest.approx({step: by_hand(step) * CLIP for step in moved}, rel=1e-3)


def test_the_epoch_counts_passes_through_the_examples(run: Recorded) -> None:
    found = {step: row["epoch"] for step, row in run.rows("train/loss").items()}
    assert found == pytest.approx({step: step / (100 // 16) for step in ROWS})


def test_the_speed_counts_examples_of_training_without_what_is_due_between_steps(run: Recorded) -> None:
    found = [row["time/examples_per_second"] for row in run.rows("train/loss").values()]
    assert found == pytest.approx([2 * 8 / 0.5] * 4)


def test_the_validation_loss_is_the_mean_over_its_examples_of_the_weights_and_of_their_average(run: Recorded) -> None:
    rows = run.rows("validation/loss")
    means = [np.concatenate(run.validated[first : first + 3]).mean() for first in range(0, 24, 3)]  # 3 batches of 8
    assert list(rows) == list(ROWS) and len(run.validated) == 24
    assert [row["validation/loss"] for row in rows.values()] == pytest.approx(means[::2], rel=1e-6)
    assert [row["validation/ema_loss"] for row in rows.values()] == pytest.approx(means[1::2], rel=1e-6)


def test_tensorboard_has_the_numbers_of_metrics_jsonl(run: Recorded) -> None:
    written = EventAccumulator(str(run.folder / "tensorboard"))
    written.Reload()
    rows = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    expected = {(name, row["step"]): row[name] for row in rows for name in row if name != "step"}
    names = {name for name, _ in expected}
    found = {(name, each.step): each.value for name in names for each in written.Scalars(name)}
    assert found == pytest.approx(expected, rel=1e-6) and len(names) > 6
