"""The network of an experiment before training, or before a checkpoint is loaded into it: one way to both."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.methods import Method, method_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.experiment.loading import CONFIG_NAME, load_experiment
from signal_diffusion.experiment.pretrained import (
    KEYS,
    advice_without_hub,
    check_pretrained,
    check_same_frozen,
    in_diffusers_layout,
    latent_statistics,
    load_pretrained,
    pretrained_in_errors,
    weights_folder,
)
from signal_diffusion.models.autoencoders.frozen import Autoencoder, load_vae
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.fingerprint import fingerprint
from signal_diffusion.models.lora import add_lora, frozen_state
from signal_diffusion.models.registry import BACKBONES, build
from signal_diffusion.paths import expanded
from signal_diffusion.randomness import Purpose, derived_seed

__all__ = [
    "GUIDE_FOLDER",
    "TEXT_ENCODER_FOLDER",
    "VAE_FOLDER",
    "Assembly",
    "assemble",
    "autoencoder_of",
    "method_on",
    "model_of",
    "vae_of",
    "with_architecture",
    "with_exported_paths",
]

VAE_FOLDER, TEXT_ENCODER_FOLDER, GUIDE_FOLDER = "vae", "text_encoder", "guide"
"""Folders of an exported model, which holds all that it needs; its experiment names them by these names."""


def method_on(model: schema.Model, card: DatasetCard) -> Method:
    """The method of [model.diffusion], scaled to its examples; latents have unit variance."""
    data_std = 1.0 if model.autoencoder.enabled else representation_of(card).data_std
    return dataclasses.replace(method_of(model.diffusion), data_std=data_std)


def model_of(
    model: schema.Model,
    card: DatasetCard,
    columns: schema.Columns,
    latent_shape: tuple[int, int, int] | None = None,
    caption: Caption | None = None,
) -> Denoiser:
    """The backbone with fresh weights, for what the card says examples are, or for latents of them."""
    channels, height, width = latent_shape or card.shape
    attributes = attributes_of(model.conditioning, card, columns, caption)
    try:
        return build(
            model.name,
            model.architecture,
            shape=(channels, height, width),
            attributes=attributes,
            electrode_rows=card.representation["name"] == "timeseries" and latent_shape is None,
        )
    except UserError as error:
        raise UserError(f"[model.architecture] {error}") from None


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A network, and the space that it works in."""

    model: Denoiser
    autoencoder: Autoencoder | None
    """None where the network works on the examples themselves; normalised where a checkpoint tells how."""
    frozen: dict[str, str]
    """SHA-256 of the weights that training leaves as they are, by what they are of; kept in every checkpoint."""


def with_architecture(
    experiment: schema.Experiment, written: Collection[str] = (), *, checkpoint: Path | None = None
) -> schema.Experiment:
    """The experiment with the architecture of its pretrained weights, where those are in diffusers' layout.

    So a checkpoint's experiment has it, and needs the weights' folder no more. Of what is on the Hub, only settings are
    brought here yet.

    Parameters
    ----------
    experiment
        As read from a file.
    written
        Dotted keys that the file or an override gives, which must not contradict the weights.
    checkpoint
        What the run goes on from, which knows the architecture already.

    Raises
    ------
    UserError
        Where there are no such weights, they are of another network, or the file contradicts them.
    """
    model = experiment.model
    if not in_diffusers_layout(model):
        return experiment
    with pretrained_in_errors(advice_without_hub(model)):
        if checkpoint is not None:
            architecture = load_experiment(checkpoint / CONFIG_NAME).model.architecture
        else:
            read = BACKBONES[model.name].architecture_of
            assert read is not None
            architecture = read(weights_folder(model, weights=False))
    wrong = [
        f"[model.architecture] {field.name}: {getattr(model.architecture, field.name)}, but the pretrained model has "
        f"{getattr(architecture, field.name)}; leave the key out"
        for field in dataclasses.fields(model.architecture)
        if f"model.architecture.{field.name}" in written
        and getattr(architecture, field.name, None) != getattr(model.architecture, field.name)
    ]
    if wrong:
        raise UserError(*wrong)
    return dataclasses.replace(experiment, model=dataclasses.replace(model, architecture=architecture))


def with_exported_paths(experiment: schema.Experiment, folder: Path) -> schema.Experiment:
    """The experiment that an exported model's folder holds, with the places of what lies in there too."""
    model = experiment.model
    autoencoder, conditioning = model.autoencoder, model.conditioning
    if autoencoder.path == VAE_FOLDER:
        autoencoder = dataclasses.replace(autoencoder, path=str(folder / VAE_FOLDER))
    if conditioning.text_encoder == TEXT_ENCODER_FOLDER:
        conditioning = dataclasses.replace(conditioning, text_encoder=str(folder / TEXT_ENCODER_FOLDER))
    model = dataclasses.replace(model, autoencoder=autoencoder, conditioning=conditioning)
    generation = experiment.generation
    if generation.sampling.guidance_checkpoint == GUIDE_FOLDER:
        sampling = dataclasses.replace(generation.sampling, guidance_checkpoint=str(folder / GUIDE_FOLDER))
        generation = dataclasses.replace(generation, sampling=sampling)
    return dataclasses.replace(experiment, model=model, generation=generation)


def vae_of(model: schema.Model) -> Any | None:
    """The VAE that [model.autoencoder] names; None where it is not enabled. Read before anything else is done."""
    if not model.autoencoder.enabled:
        return None
    table, key = (model.autoencoder, "path") if model.autoencoder.path else (model, "pretrained")
    return load_vae(expanded(getattr(table, key), KEYS["autoencoder"]).as_posix())


def assemble(
    experiment: schema.Experiment,
    card: DatasetCard,
    vae: Any | None,
    caption: Caption | None = None,
    *,
    checkpoint: Path | None = None,
) -> Assembly:
    """The experiment's network: its fresh weights, the pretrained ones in their place, and the changes of LoRA.

    With a `checkpoint`, whose weights are loaded into the network after this, the pretrained ones are read only where
    it does not hold them.

    Raises
    ------
    UserError
        Where something does not fit, or is not what the checkpoint was trained with.
    """
    table = experiment.model
    autoencoder = autoencoder_of(table, vae, card)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(Purpose.WEIGHTS, experiment.compute.seed))
        latent_shape = autoencoder.latent_shape if autoencoder else None
        model = model_of(table, card, experiment.data.columns, latent_shape, caption)
        if table.pretrained and (table.lora.enabled or checkpoint is None):
            check_pretrained(model, experiment)
            load_pretrained(model, experiment, card)
        if table.lora.enabled:
            add_lora(model, table.lora)
    states = {"pretrained": frozen_state(model)}
    frozen = {name: fingerprint(state) for name, state in states.items() if state}
    if autoencoder:
        frozen["autoencoder"] = autoencoder.fingerprint
    if caption:
        frozen["text_encoder"] = caption.encoder
    if checkpoint is not None:
        check_same_frozen(checkpoint, frozen)
    if autoencoder and (statistics := latent_statistics(table, autoencoder, checkpoint)):
        autoencoder.normalise(statistics)
    return Assembly(model=model, autoencoder=autoencoder, frozen=frozen)


def autoencoder_of(model: schema.Model, vae: Any | None, card: DatasetCard) -> Autoencoder | None:
    """The autoencoder for a dataset's examples around `vae_of`'s VAE, which it can load again; None without one.

    Raises
    ------
    UserError
        Where it does not take such examples.
    """
    if vae is None:
        return None
    return Autoencoder(vae, card.shape, tiling=model.autoencoder.tiling, load=partial(vae_of, model))
