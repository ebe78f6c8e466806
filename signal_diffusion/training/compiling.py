"""`compile_model = "auto"`: whether compiling a run's network pays, measured once, before its first step.

A compiled network rounds differently, so the answer is written to the run's config.toml and its checkpoints, and a
resumed run keeps it. The measurement changes neither weights nor random numbers nor the order of examples: it computes
gradients of the run's first batch, and throws them away.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import convert_outputs_to_fp32, gather_object
from torch import nn

from signal_diffusion.config.writing import to_toml
from signal_diffusion.data.loaders import batches
from signal_diffusion.errors import UserError, one_line
from signal_diffusion.experiment.dataset import steps_of
from signal_diffusion.experiment.loading import CONFIG_NAME
from signal_diffusion.models.compilation import compile_blocks, uncompiled
from signal_diffusion.paths import cache_folder
from signal_diffusion.randomness import Purpose, generator_for
from signal_diffusion.training.jobs import AnyExperiment, Job, Start
from signal_diffusion.untrusted import read_json

__all__ = ["Timings", "with_compilation_chosen"]

MIN_STEPS = 1000
"""Shorter runs are not measured: the measurement takes up to about ten of their steps, and the time to compile."""
MIN_SECONDS = 1800.0
"""Runs that take less are not compiled: compiling takes up to minutes, and again for each shape of validation."""
MOST_OF_EAGER = 0.95
"""A compiled step has to take less than this share of an uncompiled one, so that chance seldom decides."""
ROUNDS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds of a forward and backward pass of one batch, and of compiling."""

    eager: float
    compiled: float
    compilation: float

    def pays(self, num_batches: int) -> bool:
        """Whether compiling saves time in so many batches, even if validation and previews take it once more."""
        is_long = num_batches * self.eager >= MIN_SECONDS  # also if a longer run has measured
        saved = num_batches * (self.eager - self.compiled)
        return is_long and self.compiled < MOST_OF_EAGER * self.eager and saved > 2 * self.compilation


def with_compilation_chosen(start: Start[AnyExperiment], job: Job) -> tuple[Job, str]:
    """The job with true or false in place of "auto", and a line that says why."""
    compiled, reason = _choice(start, job)
    training = job.experiment.training
    mode = training.performance.compile_mode if compiled else "default"  # has no effect otherwise
    performance = dataclasses.replace(training.performance, compile_model=compiled, compile_mode=mode)
    training = dataclasses.replace(training, performance=performance)
    experiment = dataclasses.replace(job.experiment, training=training)
    attachments = {**job.components.attachments, CONFIG_NAME: to_toml(experiment)}
    components = dataclasses.replace(job.components, attachments=attachments)
    line = f"compile_model auto: {'compiled' if compiled else 'not compiled'}, {reason}"
    return dataclasses.replace(job, experiment=experiment, components=components), line


def _choice(start: Start[AnyExperiment], job: Job) -> tuple[bool, str]:
    if before := start.experiment_before:
        return before.training.performance.compile_model is True, f"as in {start.checkpoint}"
    if start.sharding:
        return False, "because it is not measured under FSDP2; set training.performance.compile_model to choose"
    order = job.components.order
    num_steps = steps_of(job.experiment.training, order.steps_per_epoch)
    if num_steps < MIN_STEPS:
        return False, f"which would not pay in {num_steps:,} steps"
    num_batches = num_steps * order.accumulation
    path = _cache_file(start, job)
    # processes agree on what the first one remembers, and on the slowest measurement
    [remembered, *_] = gather_object([_read(path)])
    found = remembered or _agreed(gather_object([_measured(start, job, num_batches)]))
    if isinstance(found, str):
        return False, found
    if not remembered and start.accelerator.is_main_process:
        _write(path, found)
    when = "measured in an earlier run" if remembered else "measured before the first step"
    return (
        found.pays(num_batches),
        f"{when}: forward and backward pass {found.compiled:.3g} s compiled, {found.eager:.3g} s not, "
        f"{found.compilation:.0f} s to compile",
    )


def _agreed(found: list[Timings | str]) -> Timings | str:
    """The largest of each time over all processes; if one has not measured, its reason."""
    timings = [each for each in found if isinstance(each, Timings)]
    if len(timings) < len(found):
        return next(each for each in found if isinstance(each, str))
    names = (each.name for each in dataclasses.fields(Timings))
    return Timings(**{name: max(getattr(each, name) for each in timings) for name in names})


def _measured(start: Start[AnyExperiment], job: Job, num_batches: int) -> Timings | str:
    """Time the run's first batch on this process; or the reason why compiling cannot pay."""
    device, training, blocks = start.accelerator.device, job.experiment.training, job.components.model.blocks
    if training.gradient_checkpointing:
        job.components.model.checkpoint_gradients()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        run = _pass(start, job)
        _seconds(run, device)  # the first one is slower
        eager = [_seconds(run, device)]
        if (seconds := eager[0] * num_batches) < MIN_SECONDS:
            return (
                f"which would not pay in a run whose forward and backward passes take about {seconds / 60:.0f} minutes"
            )
        try:
            with uncompiled(blocks):  # and again afterwards
                shapes = job.components.has_many_shapes
                compile_blocks(blocks, training.performance.compile_mode, many_shapes=shapes)
                first, compiled = _seconds(run, device), list[float]()
                for _ in range(ROUNDS):  # in turn, as other load on the machine comes and goes
                    compiled.append(_seconds(run, device))
                    with uncompiled(blocks):
                        eager.append(_seconds(run, device))
        except RuntimeError as error:  # the compiler's errors, and that there is no compiler
            return f"because torch.compile failed: {one_line(error)}"
    times = [statistics.median(each) for each in (eager, compiled)]
    return Timings(eager=times[0], compiled=times[1], compilation=max(0.0, first - times[1]))


def _pass(start: Start[AnyExperiment], job: Job) -> Callable[[], None]:
    """A function that computes gradients of the run's first batch of this process, as its trainer would."""
    accelerator, components, seed = start.accelerator, job.components, job.experiment.compute.seed
    device, part, model = accelerator.device, components.order.parts[0], components.model
    assert isinstance(model, nn.Module)
    model.to(device)
    x, attributes = next(batches(components.examples, components.order, 0, 1, num_workers=0, pin_memory=False))
    batch = x.to(device), {name: values.to(device) for name, values in attributes.items()}

    def network(*inputs: Any, **named: Any) -> Any:
        with accelerator.autocast():
            return model(*inputs, **named)

    def run() -> None:
        generator = generator_for(Purpose.STEP, seed, 0, part[0], device=device)
        try:
            components.objective(convert_outputs_to_fp32(network), batch, generator, part).backward()
        finally:
            model.zero_grad()

    return run


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    begin = time.perf_counter()
    run()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - begin


def _cache_file(start: Start[AnyExperiment], job: Job) -> Path:
    """Where the timings are kept, by all that they depend on."""
    experiment, accelerator = job.experiment, start.accelerator
    training, device = experiment.training, accelerator.device
    facts = [
        dataclasses.asdict(experiment.model),
        dataclasses.asdict(training.masking),
        [training.perceptual, training.gradient_checkpointing, training.performance.compile_mode],
        [job.card.shape, job.components.order.batch_size, accelerator.num_processes, accelerator.mixed_precision],
        torch.cuda.get_device_name(device) if device.type == "cuda" else [platform.machine(), torch.get_num_threads()],
        [torch.__version__, platform.node() if device.type == "cpu" else ""],
    ]
    key = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:32]
    return cache_folder(experiment.data.loading.cache_dir, "compilation") / f"{key}.json"


def _read(path: Path) -> Timings | None:
    with suppress(UserError):  # a damaged file is measured again
        return read_json(path, Timings, "") if path.is_file() else None
    return None


def _write(path: Path, timings: Timings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(dataclasses.asdict(timings)), encoding="utf-8")
    partial.replace(path)
