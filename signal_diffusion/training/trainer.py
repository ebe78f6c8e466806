"""The training loop. `Trainer.run` reads from top to bottom; it counts everything in optimizer steps."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Batch, batches
from signal_diffusion.errors import UserError, listed, raise_on_all_processes
from signal_diffusion.experiment.dataset import steps_of
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.models.compilation import allow_many_shapes
from signal_diffusion.randomness import Purpose, derived_seed, generator_for
from signal_diffusion.training import state
from signal_diffusion.training.components import Components
from signal_diffusion.training.diagnostics import BlockGradients, traced
from signal_diffusion.training.ema import Ema
from signal_diffusion.training.intervals import Intervals, in_steps
from signal_diffusion.training.nonfinite import SkippingStep
from signal_diffusion.training.optimizers import LearningRate, build_optimizer
from signal_diffusion.training.saving import CheckpointWriter
from signal_diffusion.training.stopping import Stopped, StopRequest
from signal_diffusion.training.tracking import Tracker
from signal_diffusion.untrusted import read_tensors

__all__ = ["Trainer"]


class Trainer:
    """Trains `components.model` according to the given tables, from scratch or from a checkpoint."""

    def __init__(
        self,
        components: Components,
        accelerator: Accelerator,
        paths: RunPaths,
        *,
        training: schema.Training,
        loading: schema.Loading,
        debug: schema.Debug,
        seed: int,
    ) -> None:
        self.components, self.accelerator, self.paths = components, accelerator, paths
        self.loading, self.debug, self.seed = loading, debug, seed
        steps_per_epoch = components.order.steps_per_epoch
        self.num_steps = steps_of(training, steps_per_epoch)
        self.training = training = in_steps(training, steps_per_epoch)
        self.intervals = Intervals(training, self.num_steps)
        assert isinstance(components.model, nn.Module)
        self.model = components.model
        if training.gradient_checkpointing:
            components.model.checkpoint_gradients()
        self._compile()
        optimizer = build_optimizer(self.model.to(accelerator.device), training.optimizer)
        self.wrapped, self.optimizer = accelerator.prepare(self.model, optimizer)
        self.learning_rate = LearningRate(training, num_steps=self.num_steps, steps_per_epoch=steps_per_epoch)
        self.ema = Ema(self.model, training.ema) if training.ema.enabled else None
        self.skipping = SkippingStep(optimizer, accelerator.device)
        self.progress = state.Progress(steps_per_epoch=steps_per_epoch)
        exact = torch.float32 if accelerator.device.type == "mps" else torch.float64  # MPS has no float64
        self.losses = torch.zeros(2, dtype=exact, device=accelerator.device)
        self.saved_step = -1
        self.writer = CheckpointWriter(paths.checkpoints, training.checkpointing.total_limit)
        wanted = debug.log_gradients and accelerator.is_main_process  # gradients are the same on all processes
        self.gradients = BlockGradients(self.model, components.model.blocks, accelerator.device) if wanted else None

    # The loop -------------------------------------------------------------------------------------------------------

    def run(self, tracker: Tracker) -> bool:
        """Train until the last step or a request to stop; return whether the last step was reached.

        Raises
        ------
        UserError
            If a gradient is not finite, or a checkpoint cannot be written.
        """
        finished = False
        with StopRequest() as stop, self.writer:
            try:
                self._due_after_step(tracker, stop)  # if a stop prevented it at the step resumed from
                traces = self.debug.profile and self.accelerator.is_main_process
                with traced(self.paths.logs if traces else None, tracker.message) as trace_step:
                    self._train(tracker, stop, trace_step)
                finished = True
            except Stopped:
                tracker.message(f"stopped by {stop.cause} at step {self.progress.step}")
            self._save(tracker)
            self._finish_saving(tracker)
        return finished

    def _train(self, tracker: Tracker, stop: StopRequest, trace_step: Callable[[], None]) -> None:
        first, last = self.progress.step, self.num_steps
        stream = batches(
            self.components.examples,
            self.components.order,
            first,
            last,
            num_workers=self.loading.num_workers,
            pin_memory=self.loading.pin_memory and self.accelerator.device.type == "cuda",
        )
        log_time, log_step = time.perf_counter(), first
        for step in range(first, last):
            grad_norm = self._step(step, stream)
            self.progress.step = step + 1
            trace_step()
            if self.intervals.logs(step + 1):
                elapsed, log_time = time.perf_counter() - log_time, time.perf_counter()
                speed = (step + 1 - log_step) * self.components.order.examples_per_step / elapsed
                log_step = step + 1
                self._log(tracker, grad_norm, speed)
            self._report_saved(tracker, stop)
            stop.check()
            before = time.perf_counter()
            self._due_after_step(tracker, stop)
            log_time += time.perf_counter() - before  # examples/s counts only training

    def _step(self, step: int, stream: Iterator[Batch]) -> Tensor:
        """Take one optimizer step; return its gradient norm, still on the device."""
        accelerator, accumulation = self.accelerator, self.components.order.accumulation
        generator = generator_for(Purpose.STEP, self.seed, step, accelerator.process_index, device=accelerator.device)
        torch.manual_seed(derived_seed(Purpose.DROPOUT, self.seed, step, accelerator.process_index))
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        for micro in range(accumulation):
            sync = nullcontext() if micro + 1 == accumulation else accelerator.no_sync(self.wrapped)
            with sync:
                self._backward(next(stream), generator)
        self.accelerator.unscale_gradients()
        if self.gradients and self.intervals.logs(step + 1):
            self.gradients.measure()
        grad_norm = self._clip()
        self.skipping.guard(grad_norm, step + 1, by_scaler=accelerator.scaler is not None)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(step + 1)
        return grad_norm

    def _backward(self, batch: Batch, generator: torch.Generator) -> None:
        x, attributes = batch
        device = self.accelerator.device
        on_device = {name: values.to(device, non_blocking=True) for name, values in attributes.items()}
        batch = x.to(device, non_blocking=True), on_device
        loss = self.components.objective(self.wrapped, batch, generator, self.accelerator)
        self.accelerator.backward(loss / self.components.order.accumulation)
        finite = torch.isfinite(loss.detach())
        self.losses += torch.stack([torch.where(finite, loss.detach(), 0.0), finite.float()])

    def _clip(self) -> Tensor:
        limit = self.training.optimizer.gradient_clip_norm or float("inf")
        return torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)

    # What is due after a step ---------------------------------------------------------------------------------------

    def _due_after_step(self, tracker: Tracker, stop: StopRequest) -> None:
        """Validate, draw previews and save, in this order; each if it is due at this step and not done yet."""
        if self.components.validation and self.intervals.validates(self.progress):
            self._validate(tracker, stop)
        if self.components.previews and self.intervals.draws(self.progress):
            self._preview(tracker, stop)
        if self.intervals.saves(self.progress.step):
            self._save(tracker)

    def _log(self, tracker: Tracker, grad_norm: Tensor, examples_per_second: float) -> None:
        """Log metrics; the only part of a step that waits for the device."""
        total, count = self.accelerator.reduce(self.losses, reduction="sum").tolist()
        self.losses.zero_()
        self._stop_if_not_finite()
        loss, step = total / count if count else math.nan, self.progress.step
        if not count and self.training.on_nonfinite == "stop":  # fp16: the scaler has skipped these steps itself
            raise UserError(
                f"no loss was finite in the {self.training.log_interval} steps up to {step}; {self._advice(step)}"
            )
        row = {
            "epoch": step / self.components.order.steps_per_epoch,
            "train/loss": loss,
            "train/grad_norm": grad_norm.item(),
            "train/learning_rate": self.learning_rate(step - 1),
            "time/examples_per_second": examples_per_second,
        }
        if self.training.on_nonfinite == "skip":
            row["train/skipped_steps"] = int(self.skipping.num_skipped.item())
        if self.gradients:
            row |= self.gradients.norms()
            for name, histogram in self.gradients.histograms().items():
                tracker.histogram(step, name, histogram)
        tracker.metrics(step, row)
        tracker.progress(step, loss, examples_per_second)

    def _stop_if_not_finite(self) -> None:
        bad = int(self.skipping.first_skipped.item())
        if bad < 0 or self.training.on_nonfinite == "skip":
            return
        raise UserError(f"the gradient of step {bad} was not finite, so the step was skipped; {self._advice(bad)}")

    def _advice(self, step: int) -> str:
        """What to do about a loss that was not finite at `step`."""
        order, examples = self.components.order, self.components.examples
        processes = (dataclasses.replace(order, process_index=rank) for rank in range(order.num_processes))
        indices = np.concatenate([batch for each in processes for batch in each.indices(step - 1)])
        if bad := examples.not_finite(indices):
            return (
                f"examples of its batch have values that are not finite: {listed(bad)}; run `signal-diffusion data "
                "check` on the dataset, and make it again without them"
            )
        self.writer.collect(wait=True)
        saved = checkpoints.list_checkpoints(self.paths.checkpoints)
        last = f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"
        return f'{last}; lower training.optimizer.learning_rate, or set training.on_nonfinite = "skip"'

    def _validate(self, tracker: Tracker, stop: StopRequest) -> None:
        assert self.components.validation is not None
        losses = self.components.validation(self.model, self.accelerator, stop.check)
        if self.ema:
            averaged = losses  # initially the average is a copy of the weights
            if self.progress.step > 0:
                with self.ema.applied():
                    averaged = self.components.validation(self.model, self.accelerator, stop.check)
            losses = losses | {f"ema_{name}": value for name, value in averaged.items()}
        if self.components.comparison:
            with self.ema.applied() if self.ema else nullcontext():
                losses |= self.components.comparison(self.model, self.accelerator, stop.check)
        step, progress = self.progress.step, self.progress
        progress.validated = step
        self.saved_step = -1  # a checkpoint of this step from before a stop does not include this validation
        tracker.metrics(step, {f"validation/{name}": value for name, value in losses.items()})
        metric = self.training.validation.metric
        is_loss = not metric.startswith(schema.GENERATED)
        value = losses.get(metric, losses["loss"] if is_loss else math.nan)
        name = "loss" if is_loss else metric
        tracker.message(f"step {step}  validation {name} {value:.4f}")
        if step == 0:
            return
        self.learning_rate.validated(_to_minimise(metric, value))
        if not math.isfinite(value):
            tracker.message(f"warning: the validation {name} of step {step} is not finite; it cannot be the best")
        elif progress.best_value is None or _to_minimise(metric, value) < _to_minimise(metric, progress.best_value):
            progress.best_step, progress.best_value = step, value
            self._save(tracker)

    def _preview(self, tracker: Tracker, stop: StopRequest) -> None:
        assert self.components.previews is not None
        with self.ema.applied() if self.ema else nullcontext():
            images = self.components.previews(self.model, self.accelerator, self.progress.step, stop.check)
        self.progress.pictured = self.progress.step
        if self.accelerator.is_main_process:
            for name, path in images.items():
                tracker.image(self.progress.step, name, path)

    # Checkpoints ----------------------------------------------------------------------------------------------------

    def _save(self, tracker: Tracker) -> None:
        """Start to write `checkpoint-<step>` unless that was done, from copies, so that training can go on."""
        step, progress = self.progress.step, self.progress
        if step == self.saved_step:
            return
        self._stop_if_not_finite()
        progress.losses = self.accelerator.gather(self.losses[None]).tolist()
        progress.optimizer = self.training.optimizer.type
        progress.skipped_steps = int(self.skipping.num_skipped.item())
        progress.ema_updates = self.ema.num_updates if self.ema else 0
        progress.plateau = self.learning_rate.state_dict()
        scaler = self.accelerator.scaler
        progress.scaler = scaler.state_dict() if scaler else None
        self._finish_saving(tracker)
        if self.accelerator.is_main_process:
            optimizer = self.optimizer if self.training.checkpointing.save_optimizer else None
            with self.ema.applied() if self.ema else nullcontext():
                exported = self.components.exported(self.model)
            writers = state.writers(self.model, self.ema, optimizer, progress, self.components.attachments)
            self.writer.start(step, {**writers, **exported}, keep=progress.best_step)
        self.saved_step = step

    def _finish_saving(self, tracker: Tracker) -> None:
        """Wait until the checkpoint that is being written exists; raise on all processes if it cannot be written."""
        with raise_on_all_processes():
            if saved := self.writer.collect(wait=True):
                tracker.message(f"saved {saved}")

    def _report_saved(self, tracker: Tracker, stop: StopRequest) -> None:
        """Report a checkpoint that is complete; if one cannot be written, stop on all processes."""
        if self.writer.has_failed:
            stop.ask("a checkpoint that cannot be written")
        elif saved := self.writer.collect(wait=False):
            tracker.message(f"saved {saved}")

    def resume(self, checkpoint: Path, *, reset_optimizer: bool = False, reset_scheduler: bool = False) -> None:
        """Resume from a verified checkpoint as if the run had not been interrupted, except for what is reset.

        `reset_optimizer` starts with a fresh optimizer state: the type may change, and the checkpoint needs no state;
        fp16's loss scale is kept. `reset_scheduler` restarts the learning-rate schedule, plateaus included, over the
        remaining steps. Everything else continues from the checkpoint's step in either case: the step counter, the
        weights and their average, the order of examples, the noise, and the best value so far if its checkpoint still
        exists.

        Raises
        ------
        UserError
            If the checkpoint is of another model, or has no state for this optimizer.
        """
        checkpoints.load_weights(self.model, checkpoint, use_ema=False)
        progress = self.progress = state.Progress.of(checkpoint)
        progress.steps_per_epoch = self.components.order.steps_per_epoch
        if not reset_optimizer:
            state.resume_optimizer(
                self.optimizer.optimizer, self.training.optimizer.type, checkpoint, progress.optimizer
            )
        self._resume_ema(checkpoint)
        if reset_scheduler:
            progress.schedule_start, progress.plateau = progress.step, None
        self.learning_rate.resume(progress.schedule_start, progress.plateau)
        if self.accelerator.scaler and progress.scaler:
            self.accelerator.scaler.load_state_dict(progress.scaler)
        saved = torch.tensor(progress.losses, dtype=self.losses.dtype)
        same = len(saved) == self.accelerator.num_processes
        own = saved[self.accelerator.process_index] if same else saved.sum(0) / self.accelerator.num_processes
        self.losses.copy_(own)
        self.skipping.num_skipped.fill_(progress.skipped_steps)
        if checkpoint.resolve().parent == self.paths.checkpoints.resolve():
            self.saved_step = progress.step
        best = self.paths.checkpoints / f"checkpoint-{progress.best_step}"
        if not best.is_dir():  # it is in another run directory, or was removed for a better one later than this step
            progress.best_step = progress.best_value = None

    def forget_best(self) -> None:
        """Forget the best validation loss, so that the next one becomes the best."""
        self.progress.best_step = self.progress.best_value = None
        self.learning_rate.forget_best()

    def _resume_ema(self, checkpoint: Path) -> None:
        if self.ema is None:
            return
        path = checkpoint / checkpoints.EMA_WEIGHTS
        if path.is_file():
            averages = read_tensors(path, checkpoints.DAMAGED)
            try:
                self.ema.load_state_dict(averages, self.progress.ema_updates)
            except KeyError as error:
                raise UserError(f"{path}: {error.args[0]}; {checkpoints.DAMAGED}") from None
        else:
            self.ema.restart()

    # Set-up ---------------------------------------------------------------------------------------------------------

    def _compile(self) -> None:
        """Compile block by block and in place, so that saved names get no prefix and DDP wraps the compiled model."""
        performance = self.training.performance
        if not performance.compile_model:
            return
        allow_many_shapes()
        for block in self.components.model.blocks:
            block.compile(mode=performance.compile_mode, fullgraph=True, dynamic=False)


def _to_minimise(metric: str, value: float) -> float:
    """A validation metric, or 1 minus it if larger is better: coverage is a share."""
    return 1 - value if metric in schema.LARGER_IS_BETTER else value
