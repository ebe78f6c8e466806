"""Mirrored electrodes: which are opposite of each other, and that a mirrored window is one in microvolts."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from signal_diffusion.config.schema import Augmentation
from signal_diffusion.data.augmentation import augmenting_of
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.mirroring import Mirror, mirror_of
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment


@pytest.fixture
def card(datasets: dict[str, Path]) -> DatasetCard:
    return DatasetCard.load(datasets["timeseries"])


def mirror(card: DatasetCard) -> Mirror:
    return mirror_of(card, representation_of(card))


def windows(card: DatasetCard, count: int = 4) -> torch.Tensor:
    """Microvolts with an average reference."""
    signals = 5 * torch.randn(count, *card.shape[1:], generator=torch.Generator().manual_seed(0))
    return signals - signals.mean(1, keepdim=True)


def test_the_opposite_of_an_electrode_is_the_one_that_its_name_says(card: DatasetCard) -> None:
    opposite = {name: card.channels[row] for name, row in zip(card.channels, mirror(card).opposite, strict=True)}

    assert opposite["Fp1"] == "Fp2" and opposite["T8"] == "T7" and opposite["Cz"] == "Cz"
    for name, other in opposite.items():
        number, digit = (int(each[-1]) if each[-1].isdigit() else 0 for each in (name, other))
        assert name[:-1] == other[:-1] and digit == (number and number + (1 if number % 2 else -1))


def test_a_mirrored_window_has_the_microvolts_of_the_other_side(card: DatasetCard) -> None:
    representation, signals = representation_of(card), windows(card)
    left, right = card.channels.index("C3"), card.channels.index("C4")

    found = representation.to_signal(mirror(card)(representation.to_tensor(signals)))

    torch.testing.assert_close(found[:, left], signals[:, right], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[:, right], signals[:, left], atol=1e-4, rtol=0)
    assert found.mean(1).abs().max() < 1e-4  # still the average reference


def test_mirrored_twice_is_the_window(card: DatasetCard) -> None:
    x = representation_of(card).to_tensor(windows(card))

    torch.testing.assert_close(mirror(card)(mirror(card)(x)), x)


def test_half_of_the_windows_of_a_batch_are_mirrored(card: DatasetCard) -> None:
    representation = representation_of(card)
    x = representation.to_tensor(windows(card, count=200))
    augmenting = augmenting_of(Augmentation(mirror=True), card, representation)

    found = augmenting(x, torch.Generator().manual_seed(1))

    swapped = (found == mirror(card)(x)).flatten(1).all(1)
    alike = (found == x).flatten(1).all(1)
    assert (swapped ^ alike).all() and 75 < swapped.sum() < 125


def test_an_electrode_without_an_opposite_is_named(card: DatasetCard) -> None:
    names = [name for name in card.channels if name != "C4"]
    places = {name: card.positions[name] for name in names}

    with pytest.raises(UserError, match=r"^\[data.augmentation\] mirror: no electrode is opposite of C3; leave"):
        mirror_of(replace(card, channels=tuple(names), positions=places), representation_of(card))


def test_an_electrode_without_a_position_is_named(card: DatasetCard) -> None:
    places = {name: place for name, place in card.positions.items() if name != "Fp1"}

    with pytest.raises(UserError, match="the dataset has no position of Fp1"):
        mirror_of(replace(card, positions=places), representation_of(card))


def test_pictures_are_not_mirrored(experiment_file: Path) -> None:
    with pytest.raises(UserError, match=r"use it only with 'timeseries'"):
        load_experiment(experiment_file, ["data.augmentation.mirror=true"])
