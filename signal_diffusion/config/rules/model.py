"""Rules about [model]."""

from __future__ import annotations

from collections.abc import Iterator

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules.findings import Finding
from signal_diffusion.config.schema import Augmentation, Experiment

__all__ = [
    "attributes",
    "betas",
    "cached_latents",
    "captions",
    "electrodes",
    "norm_groups",
    "pretrained_parts",
    "weights",
]


def pretrained_parts(experiment: Experiment) -> Iterator[Finding]:
    """An autoencoder without a path, and LoRA, need pretrained weights."""
    model = experiment.model
    if model.autoencoder.enabled and not (model.autoencoder.path or model.pretrained):
        yield (
            "model.autoencoder.path",
            "expected the folder or Hub id of a diffusers autoencoder, since model.pretrained is not set",
        )
    if model.lora.enabled and not model.pretrained:
        yield "model.lora.enabled", "LoRA needs pretrained weights; set model.pretrained"


def cached_latents(experiment: Experiment) -> Iterator[Finding]:
    """Examples that are encoded once cannot be augmented differently each time."""
    autoencoder, augmentation = experiment.model.autoencoder, experiment.data.augmentation
    if autoencoder.enabled and autoencoder.cache_latents and experiment.data.streaming:
        yield (
            "model.autoencoder.cache_latents",
            "encodes the whole split first, which data.streaming is to avoid; set one",
        )
    if autoencoder.enabled and autoencoder.cache_latents and augmentation != Augmentation():
        yield (
            "model.autoencoder.cache_latents",
            "cached latents cannot be augmented; set it to false, or remove data.augmentation",
        )


def attributes(experiment: Experiment) -> Iterator[Finding]:
    """Attributes are distinct."""
    names = experiment.model.conditioning.attributes or ()
    if len(set(names)) < len(names):
        yield "model.conditioning.attributes", f"expected each name once, found {', '.join(names)}"


def captions(experiment: Experiment) -> Iterator[Finding]:
    """A caption model takes its text encoder from `text_encoder`, or else from the pretrained pipeline."""
    model = experiment.model
    if model.conditioning.type == "caption" and not (model.conditioning.text_encoder or model.pretrained):
        yield (
            "model.conditioning.text_encoder",
            "expected the folder or Hub id of a text encoder, since model.pretrained is not set",
        )


def electrodes(experiment: Experiment) -> Iterator[Finding]:
    """Rows of latents are not electrodes, and have no positions."""
    model = experiment.model
    if model.conditioning.electrodes == "position" and model.autoencoder.enabled:
        yield (
            "model.conditioning.electrodes",
            "'position' needs examples whose rows are electrodes; use 'name', or model.autoencoder.enabled = false",
        )


def betas(experiment: Experiment) -> Iterator[Finding]:
    """The noise grows with time."""
    diffusion = experiment.model.diffusion
    if diffusion.beta_start > diffusion.beta_end:
        yield "model.diffusion.beta_start", f"expected at most beta_end = {diffusion.beta_end}"


def weights(experiment: Experiment) -> Iterator[Finding]:
    """The loss is weighed over time in one way."""
    diffusion = experiment.model.diffusion
    if diffusion.snr_gamma is not None and diffusion.loss != "prediction":
        yield (
            "model.diffusion.snr_gamma",
            f"weighs the loss over time, and so does loss = {diffusion.loss!r}; remove one of them",
        )


def norm_groups(experiment: AutoencoderExperiment) -> Iterator[Finding]:
    """Group norms divide the channels of each level."""
    architecture = experiment.model.architecture
    if wrong := [each for each in architecture.block_out_channels if each % architecture.norm_num_groups]:
        yield (
            "model.architecture.norm_num_groups",
            f"{architecture.norm_num_groups} does not divide {wrong[0]} of block_out_channels; choose a divisor of all",
        )
