"""The speed of training steps: the trainer's own, and those of diffusers' example scripts on a network of the size."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from signal_diffusion.benchmarks.counterparts import Counterpart, counterpart_of
from signal_diffusion.benchmarks.experiments import Case, case_of, rows_of_each
from signal_diffusion.benchmarks.machine import ceilings, dtype_of
from signal_diffusion.benchmarks.measuring import BOTH_PASSES, Call, Row, Variant, compared
from signal_diffusion.benchmarks.report import Report
from signal_diffusion.data.loaders import ExampleOrder, Examples
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.training.components import Components
from signal_diffusion.training.diffusion import objective_of
from signal_diffusion.training.trainer import Trainer

__all__ = ["training_report"]


def _rows(case: Case, *, compiled: bool, against: Counterpart | None, rounds: int) -> list[Row]:
    """Rows of one optimizer step: as in a run, also compiled, and of diffusers' network if there is one."""
    accelerator, batch = case.accelerator, case.experiment.data.loading.batch_size
    flops = BOTH_PASSES * batch * case.inspection.flops
    variants = [Variant(name="ours", call=_own_step(case, compiled=False), examples=batch, flops=flops)]
    if compiled:
        step = _own_step(case, compiled=True)
        variants.append(Variant(name="ours, compiled", call=step, examples=batch, flops=flops))
    if against:
        call, flops = against.training_step(accelerator, batch), BOTH_PASSES * batch * against.flops
        variants.append(Variant(name="diffusers", call=call, examples=batch, flops=flops))
    limits = ceilings(accelerator.device, dtype_of(accelerator.mixed_precision))
    return compared(f"{case.name}, batch {batch}", variants, limits, device=accelerator.device, rounds=rounds)


def training_report(
    config: Path | None,
    overrides: Sequence[str],
    *,
    batch_size: int | None,
    compiled: bool,
    against_diffusers: bool,
    rounds: int,
) -> Report:
    """Measure an experiment's training step; without one, that of each backbone at its default size.

    Raises
    ------
    UserError
        If an experiment is wrong or does not fit into memory, or diffusers has nothing like it.
    """

    def rows_of(file: Path) -> list[Row]:
        case = case_of(file, overrides, batch_size)
        return _rows(
            case, compiled=compiled, against=counterpart_of(case) if against_diffusers else None, rounds=rounds
        )

    rows, notes = rows_of_each(config, rows_of)
    return Report.of("train", rows, notes)


def _own_step(case: Case, *, compiled: bool) -> Call:
    """A function that takes the trainer's next step, on noise: loss, backward, clipping, optimizer and averages.

    The inputs of a latent model are latents, as from the cache.
    """
    experiment, accelerator = case.experiment, case.accelerator
    model, attributes = case.network()
    x, cond = case.inputs(attributes, experiment.data.loading.batch_size)
    components = Components(
        model=model,
        objective=objective_of(experiment, case.resolved.dataset, attributes, None, accelerator.device),
        examples=cast(Examples, None),  # a step takes the batches that it is given
        order=ExampleOrder(num_examples=len(x), batch_size=len(x)),
        validation=None,
        previews=None,
        attachments={},
    )
    performance = dataclasses.replace(experiment.training.performance, compile_model=compiled)
    trainer = Trainer(
        components,
        accelerator,
        RunPaths.of(Path(), experiment.output.subdirs),  # nothing is written
        training=dataclasses.replace(experiment.training, performance=performance),
        loading=experiment.data.loading,
        debug=experiment.debug,
        seed=experiment.compute.seed,
    )
    stream, steps = itertools.repeat((x, dict(cond.attributes))), itertools.count()
    return lambda: trainer.take_step(next(steps), stream)
