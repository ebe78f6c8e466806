"""From a run's folder to a model that is ready to sample from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from signal_diffusion.checkpoints import MANIFEST, WEIGHTS, find_checkpoint, load_weights, verify
from signal_diffusion.config import schema
from signal_diffusion.config.loading import to_toml
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError, listed
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.conditions import attributes_of, caption_by, encoder_of
from signal_diffusion.experiment.loading import CONFIG_NAME, RunPaths, file_in_errors, load_experiment
from signal_diffusion.experiment.network import assemble, autoencoder_of, method_on, vae_of, with_exported_paths
from signal_diffusion.experiment.pretrained import pretrained_of
from signal_diffusion.hub import downloaded, is_hub_id
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.models.conditioning.text import TextEncoder
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.pretrained import PIPELINE
from signal_diffusion.paths import expanded
from signal_diffusion.sampling.guide import guide_of
from signal_diffusion.training.state import Progress

__all__ = [
    "Trained",
    "checkpoint_at",
    "device_of",
    "experiment_at",
    "is_exported",
    "load_trained",
    "with_captions",
    "with_options",
]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A checkpoint, ready to sample from."""

    checkpoint: Path
    experiment: schema.Experiment
    card: DatasetCard
    representation: Representation
    attributes: tuple[Attribute, ...]
    method: Method
    model: Denoiser
    averaged: bool
    """Whether its weights are averages over training, or those of the last step."""
    autoencoder: Autoencoder | None
    """Of the space that the model works in."""
    encoder: TextEncoder | None = None
    """Of a model of captions."""
    guide: Denoiser | None = None
    """An earlier state of the model, which autoguidance guides away from."""

    @property
    def run(self) -> Path:
        """The folder of the run that the checkpoint lies in, if it does."""
        return RunPaths.around(self.checkpoint, self.experiment.output.subdirs).base

    @property
    def sampling(self) -> schema.Sampling:
        """How the experiment would have samples made."""
        return self.experiment.generation.sampling

    @property
    def generator(self) -> SampleGenerator:
        """What generates its samples, on the device that is there."""
        return SampleGenerator(
            method=self.method,
            sampling=self.sampling,
            shape=self.card.shape,
            autoencoder=self.autoencoder,
            device=device_of(self.experiment.compute),
        )


def device_of(compute: schema.Compute) -> str:
    """The accelerator that is there, unless the experiment asks for the CPU: it may be of another machine."""
    if compute.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_trained(path: Path, overrides: Sequence[str] = (), captions: Sequence[str] = ()) -> Trained:
    """The model of a checkpoint's folder, or of the one that a run's folder stands for, in eval mode.

    An exported model is a checkpoint too, in a folder or, by "owner/name" or "owner/name@revision", on the Hub.

    Nothing but the checkpoint is read, which has the experiment and the dataset's card beside the weights, and what it
    was trained with and does not hold: the autoencoder, the text encoder, and the pretrained weights that LoRA changes.
    `overrides` are those of an experiment file, such as "generation.sampling.steps=25". `captions` are those that a
    model of captions will be asked for beside the empty one; for others there is `with_captions`.

    Raises
    ------
    UserError
        Where there is no checkpoint, it is damaged or of another architecture, or what it needs has gone or changed.
    """
    checkpoint = checkpoint_at(path, overrides)
    verify(checkpoint)
    experiment = experiment_at(checkpoint, overrides)
    card = DatasetCard.load(checkpoint)
    with file_in_errors(checkpoint / CONFIG_NAME):
        autoencoder = autoencoder_of(experiment.model, vae_of(experiment.model), card)
        encoder = encoder_of(experiment)
        caption = caption_by(encoder, _distinct(captions), experiment) if encoder else None
        pretrained = pretrained_of(experiment.model) if experiment.model.lora.enabled else None
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
        averaged=use_ema if is_exported(checkpoint) else averaged,  # the one file of which may be either
        autoencoder=parts.autoencoder,
        encoder=encoder,
        guide=guide,
    )


def with_captions(trained: Trained, captions: Sequence[str]) -> Trained:
    """The same model for other captions beside the empty one; its tables of captions are replaced in place."""
    if trained.encoder is None:
        return trained
    caption = caption_by(trained.encoder, _distinct(captions), trained.experiment)
    for network in filter(None, (trained.model, trained.guide)):
        network.hold_captions(caption)
    return replace(trained, attributes=(caption,))


def with_options(trained: Trained, overrides: Sequence[str]) -> Trained:
    """The same model with more overrides of [generation.sampling], but for those that choose its weights.

    The checkpoint is not read for it, which may have been removed by a run that goes on, but for another guide.

    Raises
    ------
    UserError
        As reading an experiment file does.
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


def is_exported(folder: Path) -> bool:
    """Whether a folder is an exported model's, which holds all that it needs."""
    return (folder / PIPELINE).is_file() and (folder / CONFIG_NAME).is_file()


def checkpoint_at(path: Path, overrides: Sequence[str] = ()) -> Path:
    """The absolute folder of a checkpoint itself, or of the one that a run's folder stands for.

    That is what `generation.checkpoint` says, of the `overrides` or of the run's experiment: the newest whole one, the
    best, or one by its name.

    What lies around a checkpoint (its run, a guide) is found by its real path, so "." and links to one do too.

    Raises
    ------
    UserError
        Where there is none.
    """
    if not path.is_dir():
        # "runs/nam" is more likely misspelt than on the Hub where there is a folder "runs"
        if not is_hub_id(path.as_posix()) or path.parent.is_dir():
            raise UserError(f"{path}: no such folder; expected a run's, a checkpoint's or an exported model's")
        path = downloaded(path.as_posix())
    path, given = path.resolve(), path
    config, manifest = path / CONFIG_NAME, path / MANIFEST
    if not config.is_file() and not manifest.is_file():
        names = sorted(each.parent.name for each in path.glob(f"*/{config.name}"))
        such = f", such as {listed(names)} in it" if names else ""
        raise UserError(
            f"{given}: holds no model; expected a run's, a checkpoint's or an exported model's folder{such}"
        )
    if manifest.is_file() or (path / WEIGHTS).is_file():  # not by its name, which may be a run's
        return path
    chosen = [each for each in overrides if each.partition("=")[0].strip() == "generation.checkpoint"]
    experiment = load_experiment(config, chosen)
    parent = RunPaths.of(path, experiment.output.subdirs).checkpoints
    return _of_run(parent, experiment.generation.checkpoint)


def experiment_at(checkpoint: Path, overrides: Sequence[str]) -> schema.Experiment:
    """A checkpoint's experiment with overrides; of an exported model, with the paths of what it holds.

    Raises
    ------
    UserError
        As reading an experiment file does, or where an exported model is asked for weights that it does not hold.
    """
    path = checkpoint / CONFIG_NAME
    experiment = _with_cache_of_this_machine(load_experiment(path, overrides), path)
    if not is_exported(checkpoint):
        return experiment
    held = load_experiment(path).generation.sampling.use_ema
    if experiment.generation.sampling.use_ema != held:
        raise UserError(
            f"{path}: [generation.sampling] use_ema: an exported model has one set of weights, here the "
            f"{'averaged' if held else 'last'} ones; leave the key out, or sample from the run"
        )
    return with_exported_paths(experiment, checkpoint)


def _of_run(parent: Path, name: str) -> Path:
    """The checkpoint below `parent` that `generation.checkpoint` names."""
    if name not in ("latest", "best"):
        verify(parent / name)
        return parent / name
    try:
        newest = find_checkpoint(parent, "latest", warn=print)
    except UserError:
        raise UserError(f"{parent}: there is no whole checkpoint; expected one, which training writes") from None
    if name == "latest":
        return newest
    step = Progress.of(newest).best_step
    if step is None:
        raise UserError(
            f"[generation] checkpoint: 'best', but {newest} knows of none, which validation finds; expected 'latest' "
            "or 'checkpoint-<step>'"
        )
    verify(parent / f"checkpoint-{step}")
    return parent / f"checkpoint-{step}"


def _with_cache_of_this_machine(experiment: schema.Experiment, path: Path) -> schema.Experiment:
    """The experiment with the usual cache, where the file names the folder of another machine, and no override does."""
    loading = experiment.data.loading
    if not loading.cache_dir or loading.cache_dir != load_experiment(path).data.loading.cache_dir:
        return experiment
    try:
        folder = expanded(loading.cache_dir, "[data.loading] cache_dir")
    except UserError:  # of a variable of that machine
        folder = None
    if folder and os.access(folder, os.W_OK | os.X_OK):
        return experiment
    data = replace(experiment.data, loading=replace(loading, cache_dir=""))
    return replace(experiment, data=data)


def _distinct(captions: Sequence[str]) -> list[str]:
    return [text for text in dict.fromkeys(captions) if text]
