"""Start fresh or resume, and what changes on resuming."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TypeVar

from accelerate import Accelerator

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.compatibility import measured_otherwise
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.training import state
from signal_diffusion.training.trainer import Trainer

__all__ = ["checkpoint_to_resume", "resume_from", "without_resume"]

AnyExperiment = TypeVar("AnyExperiment", schema.Experiment, AutoencoderExperiment)


def without_resume(experiment: AnyExperiment) -> AnyExperiment:
    """The experiment as the run keeps it: where it went on from was of one command, and is of none that reads it."""
    training = dataclasses.replace(experiment.training, resume=schema.Resume())
    return dataclasses.replace(experiment, training=training)


def checkpoint_to_resume(
    experiment: schema.Experiment | AutoencoderExperiment, paths: RunPaths, accelerator: Accelerator
) -> Checkpoint | None:
    """The checkpoint to go on from; a run that is there already is neither continued nor overwritten unasked."""
    resume = experiment.training.resume
    for key in ("reset_optimizer", "reset_scheduler"):
        if getattr(resume, key) and not resume.enabled:
            raise UserError(
                f"[training.resume] {key}: has no effect on a run that is not resumed; expected "
                "--resume-from-checkpoint, or training.resume.enabled = true"
            )
    checkpoint = None
    if resume.enabled:
        checkpoint = checkpoints.find_checkpoint(paths.checkpoints, resume.checkpoint, warn=accelerator.print)
        if checkpoint.resolve().parent == paths.checkpoints.resolve():
            return Checkpoint(checkpoint)
    if existing := checkpoints.list_checkpoints(paths.checkpoints):
        raise UserError(
            f"{paths.base} holds a run already ({existing[-1].name}); go on with --resume-from-checkpoint latest, or "
            "choose another --output-dir"
        )
    return Checkpoint(checkpoint) if checkpoint else None


def resume_from(
    trainer: Trainer,
    checkpoint: Checkpoint | None,
    table: schema.Resume,
    experiment: schema.Experiment | AutoencoderExperiment,
) -> list[str]:
    """Have a trainer go on from a checkpoint, if there is one; a line for each thing that is not as it was there.

    Raises
    ------
    UserError
        Where the checkpoint is of another model, has no state for this optimizer, or lies behind the run's end.
    """
    if checkpoint is None:
        return []
    before = state.Progress.of(checkpoint.folder)
    lines = [*_length(trainer, checkpoint.folder, before)]
    trainer.resume(checkpoint.folder, reset_optimizer=table.reset_optimizer, reset_scheduler=table.reset_scheduler)
    anew = {"the optimizer's state": table.reset_optimizer, "the learning-rate schedule": table.reset_scheduler}
    if names := [name for name, begins in anew.items() if begins]:
        lines.append(f"begun anew at step {before.step}: {' and '.join(names)}")
    if before.validated > 0 and (changed := measured_otherwise(checkpoint, experiment)):
        trainer.forget_best()
        lines.append(
            f"the best so far is forgotten at step {before.step}: validation measures something else now, by "
            f"{', '.join(changed)}"
        )
    return lines


def _length(trainer: Trainer, checkpoint: Path, before: state.Progress) -> list[str]:
    """Hold the run's end, and the length of its epochs, against a checkpoint's; a line where those are others."""
    step, num_steps = before.step, trainer.num_steps
    then, now = before.steps_per_epoch, trainer.components.order.steps_per_epoch
    is_other = then not in (0, now)  # 0: of a version that did not keep it
    if num_steps < step:
        others = f" of {now} steps per epoch, which were {then}" if is_other else ""
        raise UserError(
            f"[training] max_steps, epochs: the run would end at step {num_steps}{others}, and {checkpoint} is of step "
            f"{step}; expected a longer run, or an earlier checkpoint"
        )
    if not is_other:
        return []
    return [
        f"steps per epoch: {now}, but {then} up to step {step} (another batch size, accumulation, number of processes "
        f"or of examples): it is at epoch {step / now:.2f} instead of {step / then:.2f}, and ends at step {num_steps}"
    ]
