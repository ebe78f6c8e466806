"""Start fresh or resume, and what changes on resuming."""

from __future__ import annotations

import dataclasses
import math
from functools import cache
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.compatibility import changed_example_keys, changed_metric_keys, check_same_origin
from signal_diffusion.experiment.dataset import dataset_of, steps_of
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.training import state
from signal_diffusion.training.optimizers import LearningRate
from signal_diffusion.training.restoring import forget_best, restore
from signal_diffusion.training.trainer import Trainer

__all__ = ["checkpoint_to_resume", "resume_from", "set_aside_others", "without_resume"]

AnyExperiment = TypeVar("AnyExperiment", schema.Experiment, AutoencoderExperiment)


def without_resume(experiment: AnyExperiment) -> AnyExperiment:
    """The experiment without [training.resume], which belongs to one command and not to the run."""
    training = dataclasses.replace(experiment.training, resume=schema.Resume())
    return dataclasses.replace(experiment, training=training)


def checkpoint_to_resume(
    experiment: schema.Experiment | AutoencoderExperiment, paths: RunPaths, accelerator: Accelerator
) -> Checkpoint | None:
    """The checkpoint to resume from; None for a new run.

    Raises
    ------
    UserError
        If the run directory already contains another run, which is not overwritten; if a reset is asked for without
        resuming; or if there is no such checkpoint.
    """
    resume = experiment.training.resume
    for key in ("reset_optimizer", "reset_scheduler"):
        if getattr(resume, key) and not resume.enabled:
            raise UserError(
                f"[training.resume] {key}: has no effect unless the run is resumed; use --resume-from-checkpoint, or "
                "set training.resume.enabled = true"
            )
    card = cache(lambda: dataset_of(experiment.data).card)  # read only if there are checkpoints to compare it with

    def check(folder: Path) -> None:
        check_same_origin(Checkpoint(folder), experiment, card())

    checkpoint = None
    if resume.enabled:
        checkpoint = checkpoints.find_checkpoint(paths.checkpoints, resume.checkpoint, accelerator.print, check)
        if Checkpoint(checkpoint).average:
            raise UserError(f"{checkpoint}: an average that `ema` made, without the state of training; use another")
        if checkpoint.resolve().parent == paths.checkpoints.resolve():
            return Checkpoint(checkpoint)
    if existing := checkpoints.list_checkpoints(paths.checkpoints):
        raise UserError(
            f"{paths.base} already contains a run ({existing[-1].name}); resume it with --resume-from-checkpoint "
            "latest, or choose another --output-dir"
        )
    return Checkpoint(checkpoint) if checkpoint else None


def set_aside_others(
    checkpoint: Checkpoint,
    paths: RunPaths,
    experiment: schema.Experiment | AutoencoderExperiment,
    card: DatasetCard,
) -> list[str]:
    """Rename checkpoints of other runs in the run directory, so that they are never removed; a line for each.

    If that of the run itself differs from the experiment or its dataset's card, all stay: the experiment was changed.
    """

    def check(folder: Path) -> None:
        check_same_origin(Checkpoint(folder), experiment, card)

    try:
        check(checkpoint.folder)
    except UserError:
        return []
    return checkpoints.set_aside(paths.checkpoints, check)


def resume_from(
    trainer: Trainer,
    checkpoint: Checkpoint | None,
    table: schema.Resume,
    experiment: schema.Experiment | AutoencoderExperiment,
) -> list[str]:
    """Resume a trainer from a checkpoint, if there is one; return a line for each thing that changes.

    Raises
    ------
    UserError
        If the checkpoint is of another model, has no state for this optimizer, or is later than the run's last step.
    """
    if checkpoint is None:
        return []
    before = state.Progress.of(checkpoint.folder)
    lines = [*_length(trainer, checkpoint.folder, before)]
    restore(trainer, checkpoint.folder, reset_optimizer=table.reset_optimizer, reset_scheduler=table.reset_scheduler)
    resets = {"the optimizer's state": table.reset_optimizer, "the learning-rate schedule": table.reset_scheduler}
    if names := [name for name, is_reset in resets.items() if is_reset]:
        lines.append(f"reset at step {before.step}: {' and '.join(names)}")
    lines += _learning_rate(trainer, checkpoint, before, experiment)
    if changed := changed_example_keys(checkpoint, experiment):
        lines.append(f"other training examples from step {before.step} on: {', '.join(changed)}")
    if before.validated > 0 and (changed := changed_metric_keys(checkpoint, experiment)):
        forget_best(trainer)
        lines.append(
            f"the best checkpoint so far is forgotten at step {before.step}: its validation loss is not comparable, "
            f"because these changed: {', '.join(changed)}"
        )
    return lines


def _learning_rate(
    trainer: Trainer,
    checkpoint: Checkpoint,
    before: state.Progress,
    experiment: schema.Experiment | AutoencoderExperiment,
) -> list[str]:
    """A line with the learning rates before and after the checkpoint, if the schedule or the run's length changed."""
    step, num_steps, then = before.step, trainer.num_steps, checkpoint.experiment_like(experiment).training
    steps_per_epoch = before.steps_per_epoch or trainer.components.order.steps_per_epoch
    length = steps_of(then, steps_per_epoch)
    rate = LearningRate(then, num_steps=length, steps_per_epoch=steps_per_epoch)
    rate.resume(before.schedule_start, before.plateau)
    if length == num_steps and math.isclose(rate(step), trainer.learning_rate(step)):
        return []
    last, following = rate(max(0, step - 1)), trainer.learning_rate(step)
    now = f"{num_steps}" if length == num_steps else f"now {num_steps}"
    return [f"learning rate: {last:.2e} in step {step} of {length}, {following:.2e} in step {step + 1} of {now}"]


def _length(trainer: Trainer, checkpoint: Path, before: state.Progress) -> list[str]:
    """Check that the run ends after the checkpoint; return a line if the number of steps per epoch has changed."""
    step, num_steps = before.step, trainer.num_steps
    then, now = before.steps_per_epoch, trainer.components.order.steps_per_epoch
    changed = then not in (0, now)  # 0: an older version, which did not save it
    if num_steps < step:
        epochs = f" ({now} steps per epoch, formerly {then})" if changed else ""
        raise UserError(
            f"[training] max_steps, epochs: the run would end at step {num_steps}{epochs}, but {checkpoint} is already "
            f"at step {step}; train for longer, or resume from an earlier checkpoint"
        )
    if not changed:
        return []
    return [
        f"steps per epoch: {now}, but {then} up to step {step} (batch size, accumulation, number of processes or of "
        f"examples changed): now at epoch {step / now:.2f} instead of {step / then:.2f}, ends at step {num_steps}"
    ]
