"""The training loop. `Trainer.run` reads from top to bottom; it counts everything in optimizer steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Batch, batches
from signal_diffusion.errors import raise_on_all_processes
from signal_diffusion.experiment.dataset import steps_of
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.models.compilation import compile_blocks
from signal_diffusion.models.sharding import shard
from signal_diffusion.randomness import Purpose, derived_seed, generator_for
from signal_diffusion.training import state
from signal_diffusion.training.best import chosen_metric, to_minimise
from signal_diffusion.training.components import Components
from signal_diffusion.training.device import Sharding
from signal_diffusion.training.diagnostics import BlockGradients, traced
from signal_diffusion.training.ema import Ema
from signal_diffusion.training.intervals import Intervals, in_steps
from signal_diffusion.training.nonfinite import MAX_SKIPPED, SkippingStep, diverged, not_finite_weights
from signal_diffusion.training.optimizers import LearningRate, build_optimizer
from signal_diffusion.training.post_hoc_ema import PowerAverages
from signal_diffusion.training.saving import CheckpointWriter
from signal_diffusion.training.snapshots import Snapshot
from signal_diffusion.training.stopping import Stopped, StopRequest
from signal_diffusion.training.tracking import Tracker

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
        sharding: Sharding | None = None,
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
        assert training.performance.compile_model != "auto"
        if training.performance.compile_model:  # before DDP wraps the model
            compile_blocks(
                components.model.blocks, training.performance.compile_mode, many_shapes=components.has_many_shapes
            )
        if sharding:
            again = sharding.reshard_after_forward
            shard(self.model, components.model.blocks, accelerator.device, reshard_after_forward=again)
        optimizer = build_optimizer(self.model.to(accelerator.device), training.optimizer)
        self.wrapped = accelerator.prepare_model(self.model, evaluation_mode=sharding is not None)  # True = no DDP
        self.optimizer = accelerator.prepare_optimizer(optimizer)
        self.is_sharded = sharding is not None
        self.learning_rate = LearningRate(training, num_steps=self.num_steps, steps_per_epoch=steps_per_epoch)
        self.ema = Ema(self.model, training.ema) if training.ema.enabled else None
        self.post_hoc = PowerAverages(self.model) if training.ema.enabled and training.ema.post_hoc else None
        self.skipping = SkippingStep(optimizer, accelerator.device)
        self.progress = state.Progress(steps_per_epoch=steps_per_epoch)
        exact = torch.float32 if accelerator.device.type == "mps" else torch.float64  # MPS has no float64
        self.losses = torch.zeros(2, dtype=exact, device=accelerator.device)
        self.saved_step = -1
        self.was_stopped = self.has_died = False
        self.writer = CheckpointWriter(paths.checkpoints, training.checkpointing.total_limit or None)
        # without FSDP, gradients are the same on all processes
        wanted = debug.log_gradients and (accelerator.is_main_process or self.is_sharded)
        self.gradients = BlockGradients(self.model, components.model.blocks, accelerator.device) if wanted else None

    # The loop -------------------------------------------------------------------------------------------------------

    def run(self, tracker: Tracker) -> bool:
        """Train until the last step or a request to stop; return whether the last step was reached.

        Raises
        ------
        DivergedError
            If gradients or weights are not finite, unless the steps may be skipped.
        UserError
            If a checkpoint cannot be written, or examples are not finite.
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
                self.was_stopped = True
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
            pin_memory=self.accelerator.device.type == "cuda",
        )
        log_time, log_step = time.perf_counter(), first
        for step in range(first, last):
            grad_norm = self.take_step(step, stream)
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

    def take_step(self, step: int, stream: Iterator[Batch]) -> Tensor:
        """Take step `step` (from 0) on the next batches of `stream`; return its gradient norm, still on the device."""
        accelerator, parts = self.accelerator, self.components.order.parts
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        finite_before = self.losses[1].clone()
        for part in parts:
            with nullcontext() if part == parts[-1] else accelerator.no_sync(self.wrapped):
                self._backward(step, part, next(stream))
        self.accelerator.unscale_gradients()
        if self.gradients and self.intervals.logs(step + 1):
            self.gradients.measure()
        grad_norm = self._clip(step + 1, bad_losses=len(parts) - (self.losses[1] - finite_before))
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(step + 1)
        if self.post_hoc:
            self.post_hoc.update()
        return grad_norm

    def _backward(self, step: int, part: tuple[int, int], batch: Batch) -> None:
        """Add the gradient of a batch, whose noise depends on its place in the step and not on the process."""
        x, attributes = batch
        device = self.accelerator.device
        key = [self.seed, step, part[0]]
        if self.progress.rollbacks:
            key.append(self.progress.rollbacks)
        generator = generator_for(Purpose.STEP, *key, device=device)
        torch.manual_seed(derived_seed(Purpose.DROPOUT, *key))
        on_device = {name: values.to(device, non_blocking=True) for name, values in attributes.items()}
        batch = x.to(device, non_blocking=True), on_device
        loss = self.components.objective(self.wrapped, batch, generator, part)
        self.accelerator.backward(loss / self.components.order.accumulation)
        finite = torch.isfinite(loss.detach())
        self.losses += torch.stack([torch.where(finite, loss.detach(), 0.0), finite.float()])

    def _clip(self, step: int, *, bad_losses: Tensor) -> Tensor:
        """Clip the gradient, and have the step skipped if it is not finite; return its norm before."""
        weights = {name: weight for name, weight in self.model.named_parameters() if weight.grad is not None}
        gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
        by_scaler = self.accelerator.scaler is not None
        grad_norm = self.skipping.guard(gradients, step, bad_losses=bad_losses, by_scaler=by_scaler)
        limit = self.training.optimizer.gradient_clip_norm or float("inf")
        torch.nn.utils.clip_grads_with_norm_(weights.values(), limit, grad_norm)
        return grad_norm

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
        self._stop_if_not_finite(tracker)
        loss, step = total / count if count else math.nan, self.progress.step
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
        if not self.has_died and self.learning_rate.is_dead(step):
            self.has_died = True
            tracker.message(
                f"warning: the learning rate is {self.learning_rate(step):.1e} at step {step} and stays too low to "
                "change weights; end the run, or raise training.scheduler.min_lr_ratio"
            )
        tracker.progress(step, loss, examples_per_second)

    def _stop_if_not_finite(self, tracker: Tracker, *, weights: bool = False) -> None:
        """Raise on all processes if a gradient, or with `weights` a weight, is not finite and the run cannot go on."""
        step, in_a_row = self.progress.step, int(self.skipping.in_a_row.item())
        first = int(self.skipping.first_skipped.item())
        if first >= 0 and self.training.on_nonfinite != "skip":
            step, problem = first, self.skipping.described(self.accelerator, self.components.order.accumulation)
        elif in_a_row > MAX_SKIPPED:
            problem = f"the last {in_a_row} steps up to step {step} were skipped, as no gradient was finite"
        elif weights and (found := not_finite_weights(self.model, self.ema, self.post_hoc)):
            problem = f"after step {step}, weights are not finite: {found}"
        else:
            return
        self._finish_saving(tracker)
        raise diverged(problem, self.components, self.training, step=step, good=self.last_good)

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
        name, value = chosen_metric(losses, metric)
        progress.is_finite = all(map(math.isfinite, (value, losses["loss"], losses.get("ema_loss", 0.0))))
        tracker.message(f"step {step}  validation {name} {value:.4f}")
        if step == 0:
            return
        self.learning_rate.validated(to_minimise(metric, value))
        if not math.isfinite(value):
            no_good = "it cannot be the best, and no checkpoint counts as good until it is finite again"
            tracker.message(f"warning: the validation {name} of step {step} is not finite; {no_good}")
        elif progress.best_value is None or to_minimise(metric, value) < to_minimise(metric, progress.best_value):
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
        self._stop_if_not_finite(tracker, weights=True)
        progress.losses = self.accelerator.gather(self.losses[None]).tolist()
        progress.optimizer = self.training.optimizer.type
        progress.skipped_steps = int(self.skipping.num_skipped.item())
        progress.skipped_in_a_row = int(self.skipping.in_a_row.item())
        if progress.is_finite and not progress.skipped_in_a_row:  # amid skipped steps, going on may skip again
            progress.good_step = step
        progress.ema_updates = self.ema.num_updates if self.ema else 0
        progress.post_hoc_updates = self.post_hoc.num_updates if self.post_hoc else 0
        progress.plateau = self.learning_rate.state_dict()
        scaler = self.accelerator.scaler
        progress.scaler = scaler.state_dict() if scaler else None
        self._finish_saving(tracker)
        if self.accelerator.is_main_process or self.is_sharded:  # all processes gather what is sharded
            optimizer = self.optimizer if self.training.checkpointing.save_optimizer else None
            with self.ema.applied() if self.ema else nullcontext():
                exported = self.components.exported(self.model)
            averages = state.copied(self.post_hoc.state_dict()) if self.post_hoc else {}
            writers = state.writers(self.model, self.ema, optimizer, progress, self.components.attachments, averages)
        if self.accelerator.is_main_process:
            snapshot = Snapshot.of(averages, step=step, num_updates=progress.post_hoc_updates)
            self.writer.start(step, {**writers, **exported}, keep=self._kept, snapshot=snapshot)
        self.saved_step = step

    def remove_checkpoints(self) -> list[str]:
        """Remove those that a kill kept from being removed, and, with their names returned, those after this step."""
        return self.writer.prune(self.progress.step, keep=self._kept)

    @property
    def _kept(self) -> tuple[int | None, int | None]:
        """Steps of the checkpoints that are never removed: the best and the last good one."""
        return self.progress.best_step, self.progress.good_step

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

    @property
    def last_good(self) -> Path | None:
        """The newest checkpoint whose weights and last validation were finite, as far as it is written."""
        path = self.paths.checkpoints / f"checkpoint-{self.progress.good_step}"
        return path if path.is_dir() else None
