"""The reference of prepared signals, taken off tensors: what it is of real windows, and where there is none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.reference import reference_of
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.experiment.network import method_on, projection_of


def with_reference(card: DatasetCard, name: str) -> DatasetCard:
    return replace(card, preprocessing=card.preprocessing | {"reference": name})


@pytest.fixture
def card(datasets: dict[str, Path]) -> DatasetCard:
    return with_reference(DatasetCard.load(datasets["timeseries"]), "average")


def microvolts(card: DatasetCard, x0: torch.Tensor) -> torch.Tensor:
    representation = representation_of(card)
    return representation.to_signal(representation.normalisation.restored(x0))


def filtered(card: DatasetCard) -> Normalisation:
    """That of pink noise: the reference is taken off filtered x0 as off any other."""
    normalisation = representation_of(card).normalisation
    assert len(normalisation.spectrum) == card.shape[2]
    return normalisation


def test_windows_with_the_average_reference_stay_as_they_are(card: DatasetCard) -> None:
    reference, representation = reference_of(card, representation_of(card), filtered(card)), representation_of(card)
    assert reference is not None
    signals = 5 * torch.randn(4, *card.shape[1:], generator=torch.Generator().manual_seed(0))
    x0 = representation.normalisation.normalised(representation.to_tensor(signals - signals.mean(1, keepdim=True)))

    torch.testing.assert_close(reference.taken_off(x0), x0, atol=1e-4, rtol=0)


def test_the_average_is_that_of_microvolts_not_of_scaled_values(card: DatasetCard) -> None:
    reference = reference_of(card, representation_of(card), filtered(card))
    assert reference is not None
    x0 = torch.randn(3, *card.shape, generator=torch.Generator().manual_seed(0))

    found, before = microvolts(card, reference.taken_off(x0)), microvolts(card, x0)

    assert found.mean(1).abs().max() < 1e-3
    torch.testing.assert_close(found, before - before.mean(1, keepdim=True), atol=1e-3, rtol=0)


def test_electrodes_that_are_the_reference_average_to_zero(card: DatasetCard) -> None:
    first, _, third = card.channels[:3]
    reference = reference_of(with_reference(card, f"{first},{third}"), representation_of(card), filtered(card))
    assert reference is not None
    x0 = torch.randn(3, *card.shape, generator=torch.Generator().manual_seed(0))

    found = microvolts(card, reference.taken_off(x0))

    assert found[:, [0, 2]].mean(1).abs().max() < 1e-3
    assert found.mean(1).abs().max() > 0.1


def test_samples_are_projected_unless_recordings_lack_electrodes_or_the_space_is_latent(card: DatasetCard) -> None:
    signals, model = representation_of(card), schema.Model()
    method = method_on(model, card)
    montages = [{"absent": list(card.channels[:2]), "people": {}, "examples": {}}]
    mixed = replace(card, preprocessing=card.preprocessing | {"montages": montages})

    assert projection_of(model, card, signals, method) is not None
    assert projection_of(model, mixed, signals, method) is None
    latent = replace(model, autoencoder=schema.Autoencoder(enabled=True))
    assert projection_of(latent, card, signals, method_on(latent, card)) is None


@pytest.mark.parametrize("name", ["none", "A1", "A1,A2"])
def test_a_reference_outside_the_dataset_is_not_seen_in_it(card: DatasetCard, name: str) -> None:
    assert reference_of(with_reference(card, name), representation_of(card)) is None
