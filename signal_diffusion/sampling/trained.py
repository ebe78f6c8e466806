"""Load the model of a checkpoint for sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from signal_diffusion.checkpoints import WEIGHTS, load_weights, verify
from signal_diffusion.config import schema
from signal_diffusion.config.writing import to_toml
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.conditions import attributes_of, caption_by, encoder_of
from signal_diffusion.experiment.loading import CONFIG_NAME, RunPaths, file_in_errors, load_experiment
from signal_diffusion.experiment.measuring import built_within
from signal_diffusion.experiment.network import assemble, autoencoder_of, method_on, projection_of, vae_of
from signal_diffusion.experiment.pretrained import pretrained_of
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.models.conditioning.text.encoder import TextEncoder
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.paths import keep_fonts_in_cache
from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at, is_exported
from signal_diffusion.sampling.guide import guide_of

__all__ = [
    "Trained",
    "device_of",
    "load_trained",
    "with_captions",
    "with_options",
]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A checkpoint that is loaded for sampling."""

    checkpoint: Path
    experiment: schema.Experiment
    card: DatasetCard
    representation: Representation
    attributes: tuple[Attribute, ...]
    method: Method
    model: Denoiser
    averaged: bool
    """Whether the weights are averaged over training; otherwise they are those of the last step."""
    autoencoder: Autoencoder | None
    """Autoencoder of the latent space; None if the model works on the examples themselves."""
    encoder: TextEncoder | None = None
    """Text encoder of a caption model."""
    guide: Denoiser | None = None
    """Weaker network that autoguidance guides away from: an earlier checkpoint of the model."""
    places: Tensor | None = None
    """Places of the electrodes to sample, (electrodes, 3), which are those of the card; None = those of training."""

    @property
    def run(self) -> Path:
        """The folder of the run that contains the checkpoint, if there is one."""
        return RunPaths.around(self.checkpoint, self.experiment.output.subdirs).base

    @property
    def sampling(self) -> schema.Sampling:
        """The experiment's [generation.sampling]."""
        return self.experiment.generation.sampling

    @property
    def generator(self) -> SampleGenerator:
        """The sample generator of the model, on the available device."""
        return SampleGenerator(
            method=self.method,
            sampling=self.sampling,
            shape=self.card.shape,
            autoencoder=self.autoencoder,
            device=device_of(self.experiment.compute),
            takes_known=self.model.takes_known,
            places=self.places,
            project=self._projection(),
        )

    def _projection(self) -> Callable[[Tensor], Tensor] | None:
        """See `projection_of`; None for other electrodes, which may be some of a head, whose average is not zero."""
        if self.places is not None:
            return None
        return projection_of(self.experiment.model, self.card, self.representation, self.method)


def device_of(compute: schema.Compute) -> str:
    """The available accelerator, or the CPU if the experiment sets it; other devices may be of another machine."""
    if compute.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_trained(path: Path, overrides: Sequence[str] = (), captions: Sequence[str] = ()) -> Trained:
    """Load the model of a checkpoint's folder, or of a run's folder (see `checkpoint_at`), in eval mode.

    An exported model is a checkpoint too: a folder, or "owner/name" or "owner/name@revision" on the Hub.

    This reads only the checkpoint, which contains the experiment and the dataset's card, and the frozen weights that it
    does not contain: the autoencoder, the text encoder, and the pretrained weights that LoRA changes. `overrides` are
    those of an experiment file, such as "generation.sampling.steps=25". `captions` are the captions that will be
    requested from a caption model; for others, use `with_captions`.

    Raises
    ------
    UserError
        If there is no checkpoint, it is damaged or of another architecture, or frozen weights are missing or changed.
    """
    checkpoint = checkpoint_at(path, overrides)
    verify(checkpoint)
    experiment = experiment_at(checkpoint, overrides)
    keep_fonts_in_cache(experiment.data.loading.cache_dir)
    card = DatasetCard.load(checkpoint)
    with file_in_errors(checkpoint / CONFIG_NAME):
        autoencoder = autoencoder_of(experiment.model, vae_of(experiment.model), card)
        encoder = encoder_of(experiment)
        caption = caption_by(encoder, _distinct(captions), experiment) if encoder else None
        pretrained = pretrained_of(experiment.model) if experiment.model.lora.enabled else None
        with nullcontext() if pretrained else built_within(checkpoint / WEIGHTS):
            parts = assemble(
                experiment, card, autoencoder, caption, pretrained=pretrained, checkpoint=Checkpoint(checkpoint)
            )
    use_ema = experiment.generation.sampling.use_ema
    averaged = load_weights(parts.model, checkpoint, use_ema=use_ema)
    with file_in_errors(checkpoint / CONFIG_NAME):
        guide = guide_of(checkpoint, experiment, card, parts.model)
    return Trained(
        checkpoint=checkpoint,
        experiment=experiment,
        card=card,
        representation=representation_of(card),
        attributes=attributes_of(experiment.model.conditioning, card, experiment.data.columns, caption),
        method=method_on(experiment.model, card),
        model=parts.model.eval(),
        averaged=use_ema if is_exported(checkpoint) else averaged,  # its only weight file has either kind
        autoencoder=parts.autoencoder,
        encoder=encoder,
        guide=guide,
    )


def with_captions(trained: Trained, captions: Sequence[str]) -> Trained:
    """The same model for other captions (and the empty one); replaces its caption tables in place."""
    if trained.encoder is None:
        return trained
    caption = caption_by(trained.encoder, _distinct(captions), trained.experiment)
    for network in filter(None, (trained.model, trained.guide)):
        network.hold_captions(caption)
    return replace(trained, attributes=(caption,))


def with_options(trained: Trained, overrides: Sequence[str]) -> Trained:
    """The same model with more overrides of [generation.sampling], except those that select its weights.

    Reads no checkpoint, which a run in progress may have removed, except that of another guide.

    Raises
    ------
    UserError
        If an override is invalid, or the guide cannot be loaded.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / CONFIG_NAME
        path.write_text(to_toml(trained.experiment), encoding="utf-8")
        try:
            experiment = load_experiment(path, overrides)
        except UserError as error:
            named = str(trained.checkpoint / CONFIG_NAME)
            raise UserError(*(line.replace(str(path), named) for line in error.lines)) from None
    guide, before = trained.guide, trained.sampling.guidance_checkpoint
    if guide is None or experiment.generation.sampling.guidance_checkpoint != before:
        guide = guide_of(trained.checkpoint, experiment, trained.card, trained.model)
    return replace(trained, experiment=experiment, guide=guide)


def _distinct(captions: Sequence[str]) -> list[str]:
    return [text for text in dict.fromkeys(captions) if text]
