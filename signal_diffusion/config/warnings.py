"""Warnings about settings that are legal but suspicious: printed before training, one line each, never an error.

Most depend on the length of the run, and so on the dataset. Defaults never cause a warning: nobody chose them.
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

__all__ = ["DEAD_LEARNING_RATE", "TRACED_STEPS", "Extent", "Finding", "findings_in", "sampling_findings"]

Finding = tuple[str, str]
"""A warning: dotted key and message."""
DEAD_LEARNING_RATE = 1e-9
"""Adam changes each weight by about the learning rate; weights are about 0.01 to 1, and fp32 rounds 0.01 by 1e-9."""
USUAL_CLIP_NORMS = (0.01, 100.0)
WARMUP_SHARE = 10  # warm-up takes at most 1 / WARMUP_SHARE of the run
TRACED_STEPS = 9
"""Steps that a run needs to write a profile."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The length of a run and the size of its dataset."""

    num_steps: int
    """Optimizer steps of the whole run."""
    steps_per_epoch: int
    examples_per_step: int
    """Over all processes."""
    num_examples: int
    """Training examples."""
    num_unlabelled: int = 0
    """Training examples without a label, if the model is conditioned on it; else 0."""


def findings_in(experiment: Experiment | AutoencoderExperiment, extent: Extent) -> list[Finding]:
    """The warnings that [validation_rules] enables, as (dotted key, message)."""
    rules, found = experiment.validation_rules, list[Finding]()
    if isinstance(experiment, Experiment):
        if rules.require_labels_if_conditional:
            found += _labels(extent)
        found += _batch_size(extent, rules.warn_if_batch_size_small)
    if rules.warn_if_suspicious:
        training = experiment.training
        found += [*_learning_rate(training), *_clip_norm(training), *_best_only(training.checkpointing)]
        found += [*_intervals(training, extent), *_warmup(training.scheduler, extent)]
        found += [*_average(training.ema, extent), *_profile(experiment, extent)]
    return found + (sampling_findings(experiment) if isinstance(experiment, Experiment) else [])


def sampling_findings(experiment: Experiment) -> list[Finding]:
    """Warnings about the sampler that do not depend on the dataset, which `signal-diffusion sample` prints too.

    On a flow, ancestral sampling has infinite noise at t = 1 (`samplers.py` has the formulas).
    """
    method, sampler = experiment.model.diffusion.method, experiment.generation.sampling.sampler
    if not experiment.validation_rules.warn_if_suspicious or (method, sampler) != ("rectified_flow", "ddpm"):
        return []
    message = (
        "'ddpm' on a rectified flow replaces all of the noise in its first step and much of it in later ones, so it "
        "needs about twice as many steps as 'euler' for the same error; 'euler-stochastic' replaces less"
    )
    return [("generation.sampling.sampler", message)]


def _labels(extent: Extent) -> Iterator[Finding]:
    if extent.num_unlabelled:
        yield (
            "model.conditioning.type",
            f"{extent.num_unlabelled} of {extent.num_examples} training examples have no label: they are trained on "
            "with the null condition",
        )


def _batch_size(extent: Extent, least: int) -> Iterator[Finding]:
    if extent.examples_per_step < least:
        yield (
            "data.loading.batch_size",
            f"{extent.examples_per_step} examples per optimizer step (batch × accumulation × processes), each with one "
            f"time and one noise: gradients of fewer than {least} are noisy; raise it, or "
            "training.gradient_accumulation_steps (threshold: validation_rules.warn_if_batch_size_small)",
        )


def _learning_rate(training: Training) -> Iterator[Finding]:
    if (rate := training.optimizer.learning_rate) < DEAD_LEARNING_RATE:
        yield (
            "training.optimizer.learning_rate",
            f"{rate:g} is dead: steps below {DEAD_LEARNING_RATE:g} are lost in the rounding of fp32 weights; usual "
            "values are 1e-5 to 1e-3",
        )


def _clip_norm(training: Training) -> Iterator[Finding]:
    norm, (low, high) = training.optimizer.gradient_clip_norm, USUAL_CLIP_NORMS
    if 0 < norm < low:
        harm = "clips every gradient, so that only its direction matters"
    elif norm > high:
        harm = "practically never clips; to turn clipping off, set 0"
    else:
        return
    yield "training.optimizer.gradient_clip_norm", f"{norm} {harm}; usual values are 0.1 to 10"


def _best_only(saving: Checkpointing) -> Iterator[Finding]:
    if saving.save_best_only and saving.interval not in (0, Checkpointing().interval):
        yield (
            "training.checkpointing.interval",
            f"{saving.interval}, but with save_best_only only checkpoints that are the best so far are written: if the "
            "run is killed, all steps since the last of them are lost; total_limit = 1 instead keeps the newest and "
            "the best",
        )


def _intervals(training: Training, extent: Extent) -> Iterator[Finding]:
    """Intervals longer than the run; one line for all of them, since a run may be short on purpose, as a trial."""
    saving, validating, drawing = training.checkpointing, training.validation, training.visualization
    tables: list[tuple[str, bool, Checkpointing | Validation | Visualization, str]] = [
        (
            "checkpointing",
            not saving.save_best_only,
            saving,
            "a crash would lose the run, as the only checkpoint is at the end",
        ),
        ("validation", validating.enabled, validating, "only one validation, at the end, so no best to choose"),
        ("visualization", drawing.enabled, drawing, "only one preview, at the end"),
    ]
    late: list[tuple[str, int, str]] = []
    for name, is_on, table, harm in tables:
        steps = table.interval * (extent.steps_per_epoch if table.unit == "epochs" else 1)
        is_default = (table.interval, table.unit) == (type(table)().interval, type(table)().unit)
        if is_on and steps > extent.num_steps and not is_default:
            late.append((f"training.{name}.interval", steps, harm))
    if late:
        [(key, steps, harm), *others] = late
        also = "".join(f"; also {other}" for other, _, _ in others)
        yield key, f"{steps} steps is longer than the run of {extent.num_steps}: {harm}{also}"


def _warmup(scheduler: Scheduler, extent: Extent) -> Iterator[Finding]:
    most = extent.num_steps // WARMUP_SHARE
    if scheduler.warmup_steps > most and scheduler.warmup_steps != Scheduler().warmup_steps:
        yield (
            "training.scheduler.warmup_steps",
            f"{scheduler.warmup_steps}, but warm-up is limited to a tenth of the run: it will take {most} steps",
        )


def _average(ema: Ema, extent: Extent) -> Iterator[Finding]:
    """An EMA that is never updated, or that is still dominated by the initial weights at the end."""
    if not ema.enabled:
        return
    updated, memory = extent.num_steps - ema.update_after_step, ema.update_every / (1 - ema.decay)
    late = {"update_after_step": ema.update_after_step, "update_every": ema.update_every - 1}
    for key in (key for key, most in late.items() if most >= extent.num_steps):
        value = getattr(ema, key)
        if value != getattr(Ema(), key):
            yield f"training.ema.{key}", f"{value}, but the run has {extent.num_steps} steps: the EMA is never updated"
            return
    if memory > updated and not ema.warmup:
        yield (
            "training.ema.decay",
            f"{ema.decay}, every {ema.update_every} steps and without warm-up, averages over {memory:.0f} steps, more "
            "than the run has: the EMA will be mostly the initial weights; lower it, or set training.ema.warmup = true",
        )


def _profile(experiment: Experiment | AutoencoderExperiment, extent: Extent) -> Iterator[Finding]:
    if experiment.debug.profile and extent.num_steps < TRACED_STEPS:
        yield "debug.profile", f"the trace covers steps 5 to {TRACED_STEPS}, but the run has only {extent.num_steps}"
