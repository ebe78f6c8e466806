"""Put a checkpoint's state into a trainer: to resume a run, or to go back within it."""

from __future__ import annotations

from pathlib import Path

import torch

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.training import state
from signal_diffusion.training.nonfinite import DivergedError, not_finite_weights
from signal_diffusion.training.trainer import Trainer
from signal_diffusion.untrusted import read_tensors

__all__ = ["forget_best", "restore", "roll_back"]

MAX_ROLLBACKS = 3
"""Of a run, over all its commands."""


def restore(
    trainer: Trainer, checkpoint: Path, *, reset_optimizer: bool = False, reset_scheduler: bool = False
) -> None:
    """Continue from a verified checkpoint as if the run had not been interrupted, except for what is reset.

    `reset_optimizer` starts with a fresh optimizer state: the type may change, and the checkpoint needs no state;
    fp16's loss scale is kept. `reset_scheduler` restarts the learning-rate schedule, plateaus included, over the
    remaining steps. Everything else continues from the checkpoint's step in either case: the step counter, the weights
    and their average, the order of examples, the noise, and the best value so far if its checkpoint still exists.

    Raises
    ------
    UserError
        If the checkpoint is of another model, has no state for this optimizer, or weights that are not finite.
    """
    checkpoints.load_weights(trainer.model, checkpoint, use_ema=False)
    progress = trainer.progress = state.Progress.of(checkpoint)
    progress.steps_per_epoch = trainer.components.order.steps_per_epoch
    if not reset_optimizer:
        state.resume_optimizer(
            trainer.optimizer.optimizer, trainer.training.optimizer.type, checkpoint, progress.optimizer
        )
    _restore_averages(trainer, checkpoint)
    if found := not_finite_weights(trainer.model, trainer.ema, trainer.post_hoc):
        raise UserError(f"{checkpoint}: weights are not finite: {found}; resume from an earlier checkpoint")
    if reset_scheduler:
        progress.schedule_start, progress.plateau = progress.step, None
    trainer.learning_rate.resume(progress.schedule_start, progress.plateau)
    if trainer.accelerator.scaler and progress.scaler:
        trainer.accelerator.scaler.load_state_dict(progress.scaler)
    saved = torch.tensor(progress.losses, dtype=trainer.losses.dtype)
    same = len(saved) == trainer.accelerator.num_processes
    own = saved[trainer.accelerator.process_index] if same else saved.sum(0) / trainer.accelerator.num_processes
    trainer.losses.copy_(own)
    trainer.skipping.resume(progress.skipped_steps, progress.skipped_in_a_row)
    if checkpoint.resolve().parent == trainer.paths.checkpoints.resolve():
        trainer.saved_step = progress.step
        if progress.is_finite:  # an older version has not saved the step
            progress.good_step = progress.step
    best = trainer.paths.checkpoints / f"checkpoint-{progress.best_step}"
    if not best.is_dir():  # it is in another run directory, or was removed for a better one later than this step
        progress.best_step = progress.best_value = None


def roll_back(trainer: Trainer, error: DivergedError) -> tuple[Checkpoint, str]:
    """Resume from the run's last good checkpoint, but with other noise; return it, and a line that says so.

    Raises
    ------
    UserError
        The `error`, unless the run may go back: `training.on_nonfinite` says so, there is a good checkpoint, the run
        has not gone back three times, and nobody has stopped it.
    """
    number, good = trainer.progress.rollbacks + 1, trainer.last_good
    if trainer.training.on_nonfinite != "rollback" or good is None or trainer.was_stopped:
        raise error
    if number > MAX_ROLLBACKS:
        raise UserError(f"{error} (the run went back {MAX_ROLLBACKS} times)")
    checkpoints.verify(good)
    restore(trainer, good)
    trainer.progress.rollbacks = number
    times = f"rollback {number} of at most {MAX_ROLLBACKS}"
    return Checkpoint(good), f"warning: {error.problem}; going on from {good} with other noise ({times})"


def forget_best(trainer: Trainer) -> None:
    """Forget the best validation loss, so that the next one becomes the best."""
    trainer.progress.best_step = trainer.progress.best_value = None
    trainer.learning_rate.forget_best()


def _restore_averages(trainer: Trainer, checkpoint: Path) -> None:
    """Load the averages that the run and the checkpoint have; others start from the checkpoint's weights."""
    progress = trainer.progress
    for average, name, num_updates in (
        (trainer.ema, checkpoints.EMA_WEIGHTS, progress.ema_updates),
        (trainer.post_hoc, checkpoints.POST_HOC_EMA, progress.post_hoc_updates),
    ):
        if average is None:
            continue
        path = checkpoint / name
        if not path.is_file():
            average.restart()
            continue
        try:
            average.load_state_dict(read_tensors(path, checkpoints.DAMAGED), num_updates)
        except KeyError as error:
            raise UserError(f"{path}: {error.args[0]}; {checkpoints.DAMAGED}") from None
