"""Build the network of an experiment, in the same way for training and for loading a checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.montages import absent_electrodes, check_whole, positions_of
from signal_diffusion.data.reference import reference_of
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.methods import Method, method_of
from signal_diffusion.diffusion.normalisation import UNCHANGED
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.experiment.pretrained import KEYS, Pretrained, check_same_frozen
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.loading import load_vae
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.fingerprint import fingerprint
from signal_diffusion.models.lora import add_lora, frozen_state
from signal_diffusion.models.registry import BACKBONES, build
from signal_diffusion.paths import expand_path
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
    "places_if_absent",
    "places_of",
    "projection_of",
    "vae_of",
    "with_exported_paths",
]

VAE_FOLDER, TEXT_ENCODER_FOLDER, GUIDE_FOLDER = "vae", "text_encoder", "guide"
"""Folders in an exported model, which is self-contained; its experiment refers to them by these names."""
ELECTRODES = "[model.conditioning] electrodes"


def method_on(model: schema.Model, card: DatasetCard) -> Method:
    """The method of [model.diffusion], with the normalisation of its examples; latents are normalised already.

    Raises
    ------
    UserError
        If the noise is to have the spectrum of signals, which the card of an older version does not have.
    """
    normalisation = UNCHANGED if model.autoencoder.enabled else representation_of(card).normalisation
    if model.diffusion.noise == "white":
        normalisation = dataclasses.replace(normalisation, spectrum=())
    elif not normalisation.spectrum:
        raise UserError(
            "[model.diffusion] noise: the dataset's card has no spectrum for pink noise (an earlier version wrote "
            'it); prepare the dataset again, or use "white"'
        )
    return dataclasses.replace(method_of(model.diffusion), normalisation=normalisation)


def projection_of(
    model: schema.Model, card: DatasetCard, representation: Representation, method: Method
) -> Callable[[Tensor], Tensor] | None:
    """x0 of the method → the x0 next to it that has the reference of the dataset's signals; None if x0 shows none.

    Recordings that lack electrodes have averages of their own, which say nothing about all electrodes together.
    """
    unknown = model.autoencoder.enabled or absent_electrodes(card)
    reference = None if unknown else reference_of(card, representation, method.normalisation)
    return reference.taken_off if reference else None


def model_of(
    experiment: schema.Experiment,
    card: DatasetCard,
    latent_shape: tuple[int, int, int] | None = None,
    caption: Caption | None = None,
) -> Denoiser:
    """The backbone with fresh weights, for examples as the card describes them, or for their latents."""
    model = experiment.model
    channels, height, width = latent_shape or card.shape
    attributes = attributes_of(model.conditioning, card, experiment.data.columns, caption)
    signals = card.representation["name"] == "timeseries" and latent_shape is None
    known, places = experiment.training.masking.probability > 0, None
    if known:
        _check_able(model.name, "takes_known", "[training.masking] probability", "cannot take masks; use 0")
    if model.conditioning.electrodes == "position":
        _check_able(model.name, "takes_places", ELECTRODES, "cannot take positions; use 'name'")
        if (patch_size := model.architecture.patch_size)[0] != 1:
            raise UserError(f"{ELECTRODES}: 'position' needs patch_size = [1, {patch_size[1]}], a token per electrode")
        places = places_of(card)
    else:
        check_whole(card, ELECTRODES, "use 'position' and a dit or an hourglass, without an autoencoder, or ")
    try:
        return build(
            model.name,
            model.architecture,
            shape=(channels, height, width),
            attributes=attributes,
            electrode_rows=signals,
            known=known,
            places=places,
        )
    except UserError as error:
        raise UserError(f"[model.architecture] {error}") from None


def _check_able(name: str, capability: str, key: str, refusal: str) -> None:
    able = [other for other, backbone in BACKBONES.items() if getattr(backbone, capability)]
    if name not in able:
        raise UserError(f"{key}: {name} {refusal}, or one of {', '.join(able)}")


def places_of(card: DatasetCard) -> Tensor:
    """The positions of a dataset's electrodes, (H, 3)."""
    advice = "use 'name', or prepare it from channels with standard names, or from recordings with positions"
    return torch.tensor(positions_of(card, ELECTRODES, advice))


def places_if_absent(card: DatasetCard) -> Tensor | None:
    """The same if some recordings of the dataset lack electrodes; None if none do."""
    return places_of(card) if absent_electrodes(card) else None


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A network, and the autoencoder of the space that it works in."""

    model: Denoiser
    autoencoder: Autoencoder | None
    """None if the network works on the examples themselves; normalised if a checkpoint has the statistics."""
    frozen: dict[str, str]
    """SHA-256 of the frozen weights, by the names of `pretrained.KEYS`; saved in every checkpoint."""


def with_exported_paths(experiment: schema.Experiment, folder: Path) -> schema.Experiment:
    """The experiment of an exported model, with the names of its folders replaced by their paths."""
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


def assemble(
    experiment: schema.Experiment,
    card: DatasetCard,
    autoencoder: Autoencoder | None,
    caption: Caption | None = None,
    *,
    pretrained: Pretrained | None,
    checkpoint: Checkpoint | None = None,
) -> Assembly:
    """Build the experiment's network: fresh weights, replaced by pretrained ones if it has any, and LoRA layers.

    With a `checkpoint`, whose weights the caller loads afterwards, pretrained weights are read only for LoRA, since
    the checkpoint does not contain them then.

    Raises
    ------
    UserError
        If something does not fit, or differs from what the checkpoint was trained with.
    """
    table = experiment.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(Purpose.WEIGHTS, experiment.compute.seed))
        latent_shape = autoencoder.latent_shape if autoencoder else None
        model = model_of(experiment, card, latent_shape, caption)
        if pretrained and (table.lora.enabled or checkpoint is None):
            pretrained.check(model, experiment)
            pretrained.load(model, experiment, card)
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
    if autoencoder and checkpoint:
        autoencoder.normalise(checkpoint.latent_statistics("start a new run"))
    elif autoencoder and pretrained and (statistics := pretrained.latent_statistics(autoencoder)):
        autoencoder.normalise(statistics)
    return Assembly(model=model, autoencoder=autoencoder, frozen=frozen)


def autoencoder_of(model: schema.Model, vae: Any | None, card: DatasetCard) -> Autoencoder | None:
    """The autoencoder of a dataset's examples around the VAE of `vae_of`, which it can reload; None without a VAE.

    Raises
    ------
    UserError
        If the VAE does not accept such examples.
    """
    if vae is None:
        return None
    return Autoencoder(vae, card.shape, tiling=model.autoencoder.tiling, load=partial(vae_of, model))


def vae_of(model: schema.Model) -> Any | None:
    """The VAE that [model.autoencoder] names; None if it is not enabled."""
    if not model.autoencoder.enabled:
        return None
    table, key = (model.autoencoder, "path") if model.autoencoder.path else (model, "pretrained")
    return load_vae(expand_path(getattr(table, key), KEYS["autoencoder"]).as_posix())
