"""Warnings about settings that are legal but suspicious: printed before training, one line each, never an error.

Most of it hangs on the length of the run, which the dataset decides. A default is not doubted: it was not chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.schema import (
    Checkpointing,
    Ema,
    Experiment,
    Scheduler,
    Training,
    Validation,
    Visualization,
)

__all__ = ["TRACED_STEPS", "Doubt", "Extent", "doubts"]

Doubt = tuple[str, str]
"""Dotted key and message."""
FEW_EXAMPLES = 8
USUAL_CLIP_NORMS = (0.01, 100.0)
WARMUP_SHARE = 10  # of which warm-up is at most one
TRACED_STEPS = 9
"""Steps after which a profile is there."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """What is known of a run once its dataset is."""

    num_steps: int
    """Optimizer steps of the whole run."""
    steps_per_epoch: int
    examples_per_step: int
    """Over all processes."""
    num_examples: int
    """Training examples."""
    num_unlabelled: int = 0
    """Those of them without the label that a model of classes is conditioned on."""


def doubts(experiment: Experiment | AutoencoderExperiment, extent: Extent) -> list[Doubt]:
    """What [validation_rules] has warnings for, as (dotted key, message)."""
    rules, found = experiment.validation_rules, list[Doubt]()
    if isinstance(experiment, Experiment):
        if rules.require_labels_if_conditional:
            found += _labels(extent)
        if rules.warn_if_batch_size_small:
            found += _batch_size(extent)
    if rules.warn_if_suspicious:
        training = experiment.training
        found += [*_clip_norm(training), *_best_only(training.checkpointing)]
        found += [*_intervals(training, extent), *_warmup(training.scheduler, extent)]
        found += [*_average(training.ema, extent), *_profile(experiment, extent)]
    return found


def _labels(extent: Extent) -> Iterator[Doubt]:
    if extent.num_unlabelled:
        yield (
            "model.conditioning.type",
            f"{extent.num_unlabelled} of {extent.num_examples} training examples have no label: they are learnt from "
            "as if there were no condition",
        )


def _batch_size(extent: Extent) -> Iterator[Doubt]:
    if extent.examples_per_step < FEW_EXAMPLES:
        yield (
            "data.loading.batch_size",
            f"{extent.examples_per_step} examples make an optimizer step (batch × accumulation × processes); each has "
            f"one time and one noise, so gradients of fewer than {FEW_EXAMPLES} are mostly chance: raise it, or "
            "training.gradient_accumulation_steps",
        )


def _clip_norm(training: Training) -> Iterator[Doubt]:
    norm, (low, high) = training.optimizer.gradient_clip_norm, USUAL_CLIP_NORMS
    if 0 < norm < low:
        harm = "every step is cut down to it, and all that is left of a gradient is its direction"
    elif norm > high:
        harm = "no gradient that a run survives is clipped; 0 says so"
    else:
        return
    yield "training.optimizer.gradient_clip_norm", f"{norm}: {harm}; usual are 0.1 to 10"


def _best_only(saving: Checkpointing) -> Iterator[Doubt]:
    if saving.save_best_only and saving.interval not in (0, Checkpointing().interval):
        yield (
            "training.checkpointing.interval",
            f"{saving.interval}, but save_best_only writes none between two that are the best so far: a kill costs all "
            "since the last of them; total_limit = 1 instead keeps the newest and the best",
        )


def _intervals(training: Training, extent: Extent) -> Iterator[Doubt]:
    """What is due after the end comes once, at the end: in one line, for a run may be short to try something."""
    saving, validating, drawing = training.checkpointing, training.validation, training.visualization
    tables: list[tuple[str, bool, Checkpointing | Validation | Visualization, str]] = [
        ("checkpointing", not saving.save_best_only, saving, "no checkpoint before the end, which a crash would take"),
        ("validation", validating.enabled, validating, "validated once, at the end, which leaves no best to choose"),
        ("visualization", drawing.enabled, drawing, "drawn once, at the end"),
    ]
    late: list[tuple[str, int, str]] = []
    for name, is_on, table, harm in tables:
        steps = table.interval * (extent.steps_per_epoch if table.unit == "epochs" else 1)
        is_default = (table.interval, table.unit) == (type(table)().interval, type(table)().unit)
        if is_on and steps > extent.num_steps and not is_default:
            late.append((f"training.{name}.interval", steps, harm))
    if late:
        [(key, steps, harm), *others] = late
        likewise = "".join(f"; likewise {other}" for other, _, _ in others)
        yield key, f"{steps} steps are more than the run's {extent.num_steps}: {harm}{likewise}"


def _warmup(scheduler: Scheduler, extent: Extent) -> Iterator[Doubt]:
    most = extent.num_steps // WARMUP_SHARE
    if scheduler.warmup_steps > most and scheduler.warmup_steps != Scheduler().warmup_steps:
        yield (
            "training.scheduler.warmup_steps",
            f"{scheduler.warmup_steps}, but warm-up takes at most a tenth of the run, and will take {most} steps",
        )


def _average(ema: Ema, extent: Extent) -> Iterator[Doubt]:
    """Averages that are nothing but a copy of the weights, or are still of their beginning."""
    if not ema.enabled:
        return
    updated, memory = extent.num_steps - ema.update_after_step, ema.update_every / (1 - ema.decay)
    late = {"update_after_step": ema.update_after_step, "update_every": ema.update_every - 1}
    for key in (key for key, most in late.items() if most >= extent.num_steps):
        value = getattr(ema, key)
        if value != getattr(Ema(), key):
            yield f"training.ema.{key}", f"{value}, in a run of {extent.num_steps} steps: the average is never updated"
            return
    if memory > updated and not ema.warmup:
        yield (
            "training.ema.decay",
            f"{ema.decay}, once in {ema.update_every} steps and without warm-up, remembers {memory:.0f} steps, more "
            f"than the run has: the average will be mostly of its beginning; lower it, or set training.ema.warmup = "
            "true",
        )


def _profile(experiment: Experiment | AutoencoderExperiment, extent: Extent) -> Iterator[Doubt]:
    if experiment.debug.profile and extent.num_steps < TRACED_STEPS:
        yield "debug.profile", f"a trace is of steps 5 to {TRACED_STEPS}, and the run has {extent.num_steps}"
