"""Measure averages of the weights on the validation split of their run, to choose among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import Examples
from signal_diffusion.data.montages import check_whole
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.changed_data import checked
from signal_diffusion.experiment.dataset import Dataset, captions_in, dataset_of
from signal_diffusion.experiment.network import places_if_absent
from signal_diffusion.sampling.choosing import experiment_at
from signal_diffusion.sampling.privacy_inputs import other_advice
from signal_diffusion.sampling.trained import Trained, device_of, load_trained
from signal_diffusion.training.latents import Encoding
from signal_diffusion.training.masking import masking_of
from signal_diffusion.training.spectral_distance import GeneratedSamples
from signal_diffusion.training.validation import validation_of

__all__ = ["MEASURES", "measured"]

MEASURES = {"loss": "validation loss", "spectral": "spectral distance, dB"}
"""What averages are chosen by; the smallest value is the best."""
NUM_GENERATED = 64
"""Samples to generate for the spectral distance, if the run generates none at its validations."""
ADVICE = "--choose needs the run's validation split; give the folder of the dataset with --set data.paths.root=DIR"

Measure = Callable[[nn.Module], float]


def measured(
    checkpoint: Path,
    averages: Sequence[Mapping[str, Tensor]],
    by: str,
    overrides: Sequence[str] = (),
    on_measured: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[float, list[float]]:
    """The value of one of `MEASURES` for the EMA of a verified checkpoint, and for each of some averages.

    `by` may also be another value of `Validation`, such as "x0_loss".

    All are measured in fp32 on the same examples, with the same times and noise.

    Raises
    ------
    UserError
        If the dataset is missing, has changed or is another one, or its examples have no spectrum.
    """
    experiment, dataset = _held_out(checkpoint, overrides)
    trained = load_trained(
        checkpoint, [*overrides, "generation.sampling.use_ema=true"], captions_in(experiment, dataset)
    )
    accelerator = Accelerator(cpu=device_of(experiment.compute) == "cpu", mixed_precision="no")
    examples = dataset.examples(dataset.data.paths.val, trained.attributes, dataset.data.loading.max_val_examples)
    measure = (
        _spectral(trained, examples, accelerator) if by == "spectral" else _loss(trained, examples, accelerator, by)
    )
    model, total = trained.model.to(accelerator.device), 1 + len(averages)
    values = [measure(model)]
    on_measured(1, total)
    for number, average in enumerate(averages, 2):
        _put(model, average)
        values.append(measure(model))
        on_measured(number, total)
    return values[0], values[1:]


def _held_out(checkpoint: Path, overrides: Sequence[str]) -> tuple[schema.Experiment, Dataset]:
    """The experiment of a checkpoint, and its dataset with a validation split that has not changed."""
    experiment, card = experiment_at(checkpoint, overrides), DatasetCard.load(checkpoint)
    with other_advice(ADVICE):
        dataset = dataset_of(experiment.data, min_channels=card.min_channels)
        dataset = checked(dataset, [experiment.data.paths.val], card)
        if (found := dataset.card.shape) != card.shape or dataset.card.channels != card.channels:
            raise UserError(f"{dataset.root}: its examples {found} are not those that the run was trained on")
    return experiment, dataset


def _loss(trained: Trained, examples: Examples, accelerator: Accelerator, name: str) -> Measure:
    experiment, encoding = trained.experiment, None
    if trained.autoencoder:
        autoencoder = trained.autoencoder.to(accelerator.device)
        encoding = Encoding(autoencoder=autoencoder, cached=False, sample_posterior=False)
    masking = masking_of(experiment.training.masking, trained.card)
    places = places_if_absent(trained.card)
    validation = validation_of(experiment, examples, trained.method, encoding, masking, places)
    return lambda model: validation(model, accelerator, lambda: None)[name]


def _spectral(trained: Trained, examples: Examples, accelerator: Accelerator) -> Measure:
    check_whole(trained.card, "--choose spectral", "choose by the loss: --choose loss, or ")
    training = trained.experiment.training
    table = replace(training.validation, num_generated=training.validation.num_generated or NUM_GENERATED)
    with other_advice("choose by the loss: --choose loss"):
        samples = GeneratedSamples(
            examples,
            trained.generator,
            trained.representation,
            table=table,
            guidance_scale=training.visualization.guidance_scale,
            seed=trained.experiment.compute.seed,
        )
    return lambda model: samples.spectral_distance(samples(model, accelerator, lambda: None))


@torch.no_grad()
def _put(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    own = dict(model.named_parameters())
    for name, value in weights.items():
        own[name].copy_(value)
