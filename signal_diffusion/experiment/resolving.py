"""Resolve everything that the experiment of a diffusion model names, once: dataset, pretrained weights, autoencoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from signal_diffusion.config import schema
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.dataset import Dataset, check_expected, dataset_of
from signal_diffusion.experiment.network import autoencoder_of, vae_of
from signal_diffusion.experiment.pretrained import Pretrained, pretrained_of
from signal_diffusion.models.autoencoders.frozen import Autoencoder

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


def resolve(
    experiment: schema.Experiment,
    written: Collection[str] = (),
    expected: Iterable[Expectation] = (),
    *,
    checkpoint: Checkpoint | None = None,
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

    Raises
    ------
    UserError
        If something does not exist or does not fit the experiment.
    """
    model = experiment.model
    pretrained = pretrained_of(model)
    if pretrained:
        architecture = pretrained.architecture(written, checkpoint)
        model = dataclasses.replace(model, architecture=architecture)
        experiment = dataclasses.replace(experiment, model=model)
    vae = vae_of(model)  # before the dataset: it fails faster
    start = checkpoint or (pretrained.checkpoint if pretrained else None)
    dataset = dataset_of(experiment.data, min_channels=start.min_channels if start else 1)
    check_expected(expected, dataset.card)
    return Resolved(
        experiment=experiment,
        dataset=dataset,
        pretrained=pretrained,
        autoencoder=autoencoder_of(model, vae, dataset.card),
    )
