"""`--batch-size auto`: the largest batch that fits into memory, found by taking training steps of growing batches.

The steps are those of a trainer that is thrown away afterwards: forward and backward pass, optimizer and EMA, on the
run's device, with its precision and its examples.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from signal_diffusion.config.overrides import parsed_override
from signal_diffusion.config.types import MAX_BATCH_SIZE
from signal_diffusion.errors import UserError
from signal_diffusion.training.jobs import AnyExperiment, Kind, Start
from signal_diffusion.training.peak_memory import Allowance, bytes_used, measure_peak
from signal_diffusion.training.trainer import Trainer

__all__ = ["largest_batch", "with_largest_batch"]

KEY = "data.loading.batch_size"
MOST_GROWTH = 4
"""Factor between a batch that was measured and the next one."""
MOST_TRIED = 1.1
"""Share of the allowed memory that a trial may take; on a CPU, that is 88 % of the free memory."""


def with_largest_batch(kind: Kind[AnyExperiment], start: Start[AnyExperiment]) -> tuple[Start[AnyExperiment], str]:
    """The start of a run with the largest batch that fits, and a line about it; on resuming, with the same as before.

    Processes agree on the smallest of what each can hold. They take the same steps together, so that memory that only
    several processes need, such as FSDP2's, is measured as well.

    Raises
    ------
    UserError
        If memory cannot be measured, not even one example fits, or `--set` has a size, too.
    """
    if any(parsed_override(each)[0] == KEY for each in start.overrides):
        raise UserError(f"--batch-size auto: --set {KEY} sets it, too; leave out one of them")
    if before := start.experiment_before:
        size = before.data.loading.batch_size
        return _with_batch_size(start, size), f"batch size {size} per process, as in {start.checkpoint}"
    allowance = Allowance.now(start.accelerator.device)
    with torch.random.fork_rng(devices=[allowance.device] if allowance.device.type == "cuda" else []):
        size, share, most = _measured(kind, start, allowance)
    bytes_used(allowance.device)  # gives back what the trial took
    reason = "the largest with a whole step per epoch" if size == most else "the largest that fits"
    return _with_batch_size(start, size), (
        f"batch size {size} per process, {reason}: a step takes {share:.0%} of {allowance}; the learning rate is not "
        "changed"
    )


def largest_batch(share_of: Callable[[int], float], resident: float, most: int) -> tuple[int, float]:
    """The largest batch size up to `most` that fits, to an eighth of it, and the share of memory that it takes.

    `share_of` measures the share of the allowed memory that a step takes; infinity if memory runs out. Sizes grow by
    at most `MOST_GROWTH`, and only so far that the next one fits if memory grows linearly from `resident`, the share
    that is taken between steps. As a step also takes memory that does not grow with the batch, such as gradients, this
    overestimates the growth, and the less so the larger the batch. So no step takes more than `MOST_TRIED`, and the
    result was tried.

    Raises
    ------
    UserError
        If a batch of one example does not fit.
    """
    fits, taken, fails, size = 0, resident, most + 1, 1
    while size > fits:
        share = share_of(size)
        if share > 1:
            fails = size
        else:
            fits, taken = size, share
        if not fits:
            raise UserError(
                "--batch-size auto: a step of one example takes more memory than is free; use "
                "training.gradient_checkpointing = true, a smaller network or another device"
            )
        if fails <= most:
            size = _rounded((fits + fails) // 2)
            continue
        growth = max(taken - resident, 1e-9) / fits
        for limit in (1.0, MOST_TRIED):  # the second if by the first nothing larger would fit, which may be wrong
            size = _rounded(int(min(fits + (limit - taken) / growth, MOST_GROWTH * fits, most)))
            if size > fits:
                break
    return fits, taken


def _measured(kind: Kind[AnyExperiment], start: Start[AnyExperiment], allowance: Allowance) -> tuple[int, float, int]:
    """The largest batch, its share of the allowance, and the largest batch that leaves a whole step per epoch."""
    accelerator = start.accelerator
    scaler = accelerator.scaler.state_dict() if accelerator.scaler else None
    trainer = _trial(kind, start)
    examples, steps = trainer.components.examples, itertools.count()

    def step(size: int) -> None:
        rows = (np.arange(size) % len(examples)).tolist()
        trainer.take_step(next(steps), iter([examples[rows] for _ in trainer.components.order.parts]))

    def agreed(used: float) -> float:
        share = torch.tensor([allowance.share(used)], device=allowance.device)
        return accelerator.gather(share).max().item()

    step(1)  # makes the optimizer's state
    resident = agreed(bytes_used(allowance.device))
    processes = accelerator.num_processes * start.experiment.training.gradient_accumulation_steps
    most = _rounded(max(1, min(MAX_BATCH_SIZE, len(examples) // processes)))
    size, share = largest_batch(
        lambda size: agreed(_peak(size, step, allowance, accelerator.num_processes)), resident, most
    )
    accelerator.free_memory()
    if scaler is not None:
        accelerator.scaler.load_state_dict(scaler)
    return size, share, most


def _peak(size: int, step: Callable[[int], None], allowance: Allowance, num_processes: int) -> float:
    """The bytes used in a step; infinity if memory runs out, unless others wait for this process."""
    try:
        return measure_peak(allowance.device, lambda: step(size))
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        if num_processes > 1:
            raise UserError(
                f"--batch-size auto: memory ran out with {size} examples per process; set {KEY} to a smaller number"
            ) from None
    clear_device_cache(garbage_collection=True)  # only now: the exception refers to the tensors
    return math.inf


def _trial(kind: Kind[AnyExperiment], start: Start[AnyExperiment]) -> Trainer:
    """A trainer of the run, uncompiled, whose batches have one example."""
    trial = _with_batch_size(start, 1)
    training = trial.experiment.training
    training = dataclasses.replace(
        training,
        performance=dataclasses.replace(training.performance, compile_model=False),
        # with two or more, a step keeps the gradients of one batch while it computes the next
        gradient_accumulation_steps=min(2, training.gradient_accumulation_steps),
    )
    experiment = dataclasses.replace(trial.experiment, training=training)
    trial = dataclasses.replace(trial, experiment=experiment, is_trial=True)
    return trial.trainer(kind.build(trial))


def _with_batch_size(start: Start[AnyExperiment], size: int) -> Start[AnyExperiment]:
    """As if `--set` had set the size."""
    data = start.experiment.data
    data = dataclasses.replace(data, loading=dataclasses.replace(data.loading, batch_size=size))
    experiment = dataclasses.replace(start.experiment, data=data)
    return dataclasses.replace(start, experiment=experiment, overrides=(*start.overrides, f"{KEY}={size}"))


def _rounded(size: int) -> int:
    """Round down to four significant bits (…, 15, 16, 18, …, 30, 32, 36, …), which suit kernels."""
    return size // _unit(size) * _unit(size)


def _unit(size: int) -> int:
    return 2 ** max(0, size.bit_length() - 4)
