"""Rules about [training]."""

from __future__ import annotations

from collections.abc import Iterator

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules.findings import AnyExperiment, Finding
from signal_diffusion.config.schema import GENERATED, Experiment

__all__ = ["checkpointing", "followed_metric", "masking", "optimizer", "perceptual", "precision", "scheduler"]


def precision(experiment: AnyExperiment) -> Iterator[Finding]:
    """fp16 needs CUDA."""
    device = experiment.compute.device
    if experiment.training.mixed_precision == "fp16" and device in ("cpu", "mps"):
        yield (
            "training.mixed_precision",
            f"'fp16' needs CUDA, but compute.device is {device!r}; use 'bf16' or 'no'",
        )


def optimizer(experiment: AnyExperiment) -> Iterator[Finding]:
    """Muon needs matrices that are trained as such."""
    if experiment.training.optimizer.type != "muon":
        return
    if isinstance(experiment, AutoencoderExperiment):
        problem = "an autoencoder has only convolutions"
    elif experiment.model.lora.enabled:
        problem = "LoRA trains only factors of the changes of matrices"
    else:
        return
    yield "training.optimizer.type", f"'muon' orthogonalises the steps of whole matrices, but {problem}; use 'adamw'"


def scheduler(experiment: AnyExperiment) -> Iterator[Finding]:
    """The schedule "plateau" needs validation."""
    training = experiment.training
    if training.scheduler.type == "plateau" and not training.validation.enabled:
        yield (
            "training.scheduler.type",
            "'plateau' needs the validation loss, but training.validation.enabled is false",
        )


def checkpointing(experiment: AnyExperiment) -> Iterator[Finding]:
    """The best checkpoint needs validation, and a rollback the optimizer's state."""
    training = experiment.training
    if training.checkpointing.save_best_only and not training.validation.enabled:
        yield (
            "training.checkpointing.save_best_only",
            "finding the best checkpoint needs validation, but training.validation.enabled is false",
        )
    if training.on_nonfinite == "rollback" and not training.checkpointing.save_optimizer:
        yield (
            "training.on_nonfinite",
            "'rollback' resumes from a checkpoint, but training.checkpointing.save_optimizer is false",
        )


def masking(experiment: Experiment) -> Iterator[Finding]:
    """Masks need signals, white noise, and at least one kind."""
    table, key = experiment.training.masking, "training.masking.probability"
    if not table.probability:
        return
    if experiment.data.representation != "timeseries" or experiment.model.autoencoder.enabled:
        yield key, "masks need examples that are signals: data.representation = 'timeseries', without an autoencoder"
    if experiment.model.diffusion.noise == "pink":
        yield (
            "model.diffusion.noise",
            "'pink' is for whole windows; use 'white', or training.masking.probability = 0",
        )
    if not table.electrodes + table.gaps + table.continuations:
        yield key, "no kind of mask has a frequency above 0; set electrodes, gaps or continuations"


def perceptual(experiment: Experiment) -> Iterator[Finding]:
    """The perceptual loss needs examples that people see: no latents; that of images needs the weights of LPIPS."""
    training = experiment.training
    if not training.perceptual:
        return
    if experiment.model.autoencoder.enabled:
        yield (
            "training.perceptual",
            "latents are neither signals nor images; set it to 0, or use model.autoencoder.enabled = false",
        )
    elif experiment.data.representation == "image" and not training.perceptual_weights:
        yield "training.perceptual_weights", "expected the folder of the weights of LPIPS, for training.perceptual"


def followed_metric(experiment: AnyExperiment) -> Iterator[Finding]:
    """The metric of the best checkpoint is measured."""
    validation = experiment.training.validation
    if not validation.metric.startswith(GENERATED):
        return
    if isinstance(experiment, AutoencoderExperiment) or experiment.data.representation == "image":
        what = "an autoencoder" if isinstance(experiment, AutoencoderExperiment) else "a model of images"
        yield (
            "training.validation.metric",
            f"{validation.metric!r} is not measured for {what}; use 'loss' or 'ema_loss'",
        )
    elif not validation.num_generated:
        yield (
            "training.validation.metric",
            f"{validation.metric!r} is measured on generated samples, but training.validation.num_generated is 0; set "
            "it to e.g. 64",
        )
