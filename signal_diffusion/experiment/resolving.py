"""Resolve everything that the experiment of a diffusion model names, once: dataset, pretrained weights, autoencoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.experiment.assumed import (
    Assumptions,
    assumed_architecture,
    assumed_caption,
    assumed_dataset,
    assumed_vae,
    required,
)
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.conditions import encoder_of
from signal_diffusion.experiment.dataset import Dataset, check_expected, dataset_of
from signal_diffusion.experiment.network import autoencoder_of, vae_of
from signal_diffusion.experiment.pretrained import Pretrained, pretrained_of
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.conditioning.attributes import Caption

__all__ = ["Resolved", "resolve"]


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """An experiment, its dataset, and the weights that it starts from."""

    experiment: schema.Experiment
    """With the architecture of its pretrained weights, so that a checkpoint can be loaded without their folder."""
    dataset: Dataset
    pretrained: Pretrained | None
    autoencoder: Autoencoder | None
    """Autoencoder of the latent space; None if the model works on the examples themselves."""
    caption: Caption | None = None
    """Stands in for the captions of a text encoder that is missing."""


def resolve(
    experiment: schema.Experiment,
    written: Collection[str] = (),
    expected: Iterable[Expectation] = (),
    *,
    checkpoint: Checkpoint | None = None,
    assumptions: Assumptions | None = None,
) -> Resolved:
    """Find, download, convert or generate what the experiment names.

    Parameters
    ----------
    experiment
        As read from a file.
    written
        Dotted keys set in the file or by an override, which must not contradict pretrained weights.
    expected
        Statements about the dataset in a file of an older layout.
    checkpoint
        The checkpoint that the run resumes from.
    assumptions
        If given, what is missing is added to it, and replaced by something of the same kind.

    Raises
    ------
    MissingError
        If something is not on this machine, without `assumptions`.
    UserError
        If something does not fit the experiment.
    """
    look_up: Any = assumptions.look_up if assumptions else required
    model = experiment.model
    pretrained = pretrained_of(model)
    listed = len(assumptions.missing) if assumptions else 0
    if pretrained:
        architecture = look_up(
            partial(pretrained.architecture, written, checkpoint), partial(assumed_architecture, model)
        )
        model = dataclasses.replace(model, architecture=architecture)
        experiment = dataclasses.replace(experiment, model=model)
    if assumptions and len(assumptions.missing) > listed:
        pretrained = None
    from_pretrained = bool(model.pretrained) and not pretrained  # the pipeline with the other parts is missing too
    skip = from_pretrained and model.autoencoder.enabled and not model.autoencoder.path
    vae = look_up(partial(vae_of, model), assumed_vae, skip=skip)  # before the dataset: it fails faster
    start = checkpoint or (pretrained.checkpoint if pretrained else None)
    dataset = look_up(
        partial(dataset_of, experiment.data, min_channels=start.min_channels if start else 1),
        partial(assumed_dataset, experiment.data, model.conditioning, expected),
    )
    if not dataset.is_assumed:
        check_expected(expected, dataset.card)
    caption = None
    if assumptions and model.conditioning.type == "caption":
        find = partial(encoder_of, experiment, weights=False)
        skip = from_pretrained and not model.conditioning.text_encoder
        encoder = look_up(find, partial(assumed_caption, model), skip=skip)
        caption = encoder if isinstance(encoder, Caption) else None
    return Resolved(
        experiment=experiment,
        dataset=dataset,
        pretrained=pretrained,
        autoencoder=autoencoder_of(model, vae, dataset.card),
        caption=caption,
    )
