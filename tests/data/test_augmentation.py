"""Augmentation: separate random numbers for each example, and none if it is disabled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from signal_diffusion.config.schema import Augmentation, ColorJitter
from signal_diffusion.data.augmentation import Augmenting, _grey, _jittered
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment

EVERYTHING = Augmentation(
    horizontal_flip=True,
    rotation_degrees=20.0,
    color_jitter=ColorJitter(enabled=True, strength=0.3),
    gaussian_noise_std=0.1,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(channels: int = 3, count: int = 200) -> Tensor:
    return torch.rand(count, channels, 16, 16, generator=generator(9)) * 2 - 1


def test_disabled_augmentation_changes_nothing_and_uses_no_random_numbers() -> None:
    before = generator()
    x = images()
    assert Augmenting()(x, before) is x
    assert torch.equal(before.get_state(), generator().get_state())


def test_only_noise_uses_the_same_random_numbers_as_before() -> None:
    x = images()
    expected = x + 0.1 * torch.randn(x.shape, generator=generator())
    assert torch.equal(Augmenting(table=Augmentation(gaussian_noise_std=0.1))(x, generator()), expected)


def test_augmentation_depends_only_on_the_given_generator() -> None:
    x, state = images(), torch.get_rng_state()
    first, again, other = (Augmenting(table=EVERYTHING)(x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == x.shape and first.dtype == x.dtype


def test_half_of_the_images_are_mirrored_and_the_others_unchanged() -> None:
    x = images()
    flipped = Augmenting(table=Augmentation(horizontal_flip=True))(x, generator())
    mirrored = (flipped == x.flip(-1)).flatten(1).all(1)
    alike = (flipped == x).flatten(1).all(1)
    assert (mirrored ^ alike).all() and 75 < mirrored.sum() < 125


def test_each_image_is_rotated_by_its_own_angle_within_the_limit() -> None:
    edge = torch.linspace(-1, 1, 65)
    height, width = torch.meshgrid(edge, edge, indexing="ij")
    bar = torch.exp(-((height / 0.05) ** 2)) * 2 - 1  # a horizontal line
    rotated = Augmenting(table=Augmentation(rotation_degrees=30.0))(bar.expand(300, 1, -1, -1), generator())
    weight = ((rotated[:, 0] + 1) / 2) * ((height**2 + width**2) < 0.8)
    slope = (
        torch.atan2(2 * (weight * height * width).sum((1, 2)), (weight * (width**2 - height**2)).sum((1, 2))).rad2deg()
        / 2
    )
    assert 27 < slope.max() <= 31 and -31 <= slope.min() < -27
    assert abs(slope.mean()) < 3 and slope.std() == pytest.approx(30 / 3**0.5, rel=0.1)


def test_rotation_introduces_no_other_colour() -> None:
    white = torch.ones(20, 1, 16, 16)
    rotated = Augmenting(table=Augmentation(rotation_degrees=180.0))(white, generator())
    assert torch.allclose(rotated, white, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_factors_are_within_the_strength(channels: int) -> None:
    x = torch.zeros(500, channels, 4, 4)  # on uniform grey, only brightness has an effect
    jitter = Augmenting(table=Augmentation(color_jitter=ColorJitter(enabled=True, strength=0.4)))
    factors = jitter(x, generator())[:, 0, 0, 0] + 1
    assert 0.6 <= factors.min() < 0.62 and 1.38 < factors.max() <= 1.4
    jittered = jitter(images(channels), generator())
    assert jittered.min() >= -1 and jittered.max() <= 1


def test_contrast_scales_about_the_mean_and_zero_saturation_is_grey() -> None:
    x = 0.2 * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one, two, none = (torch.full((4,), value) for value in (1.0, 2.0, 0.0))
    doubled = _jittered(x, one, two, one)
    for number in range(4):  # the mean of the grey image is kept
        assert _grey(doubled)[number].mean() == pytest.approx(_grey(x)[number].mean().item(), abs=1e-5)
    assert torch.allclose(
        doubled - doubled.mean((2, 3), keepdim=True), 2 * (x - x.mean((2, 3), keepdim=True)), atol=1e-5
    )
    grey = _jittered(x, one, one, none)
    assert torch.allclose(grey, _grey(x).expand_as(x), atol=1e-5)


def test_colour_jitter_keeps_grey_images_grey() -> None:
    grey = images(1).expand(-1, 3, -1, -1)
    jittered = Augmenting(table=Augmentation(color_jitter=ColorJitter(enabled=True)))(grey, generator())
    assert (jittered[:, 0] - jittered[:, 2]).abs().max() < 1e-6


def test_augmentation_does_not_synchronise_with_the_device() -> None:
    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
            assert function not in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
            return function(*arguments, **(options or {}))

    with Watch():
        Augmenting(table=EVERYTHING)(images(), generator())


@pytest.mark.parametrize(
    ("key", "complaint"),
    [
        ("horizontal_flip=true", "reverses time in EEG (data.representation = 'db-only')"),
        ("rotation_degrees=5.0", "mixes time with frequency or electrodes"),
        ("color_jitter.enabled=true", "changes microvolts"),
        ("color_jitter.strength=0.1", "has no effect with data.augmentation.color_jitter.enabled = False"),
        ("rotation_degrees=200.0", "less than or equal to 180"),
    ],
)
def test_augmentation_unsuited_to_eeg_is_an_error_when_the_experiment_is_loaded(
    key: str, complaint: str, experiment_file: Path
) -> None:
    with pytest.raises(UserError) as caught:
        load_experiment(experiment_file, [f"data.augmentation.{key}"])
    assert len(caught.value.lines) == 1 and complaint in str(caught.value)


def test_disabled_augmentation_is_allowed_for_eeg(experiment_file: Path) -> None:
    off = ["horizontal_flip=false", "rotation_degrees=0.0", "color_jitter.enabled=false"]
    load_experiment(experiment_file, [f"data.augmentation.{key}" for key in off])
