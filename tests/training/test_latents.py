"""Latents are normalised to mean 0 and standard deviation 1 by the statistics of the training split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.latent_statistics import LatentStatistics
from signal_diffusion.training import latents
from signal_diffusion.training.latents import Encoding, check_statistics, fit_statistics
from tests.latent_spaces import autoencoder, pictures


def encoding(space: Autoencoder | None = None, *, sample_posterior: bool = True) -> Encoding:
    return Encoding(autoencoder=space or autoencoder(), cached=False, sample_posterior=sample_posterior)


def by_channel(z: Tensor) -> tuple[Tensor, Tensor]:
    return z.mean((0, 2, 3)), z.std((0, 2, 3), unbiased=False)


def wide(space: Autoencoder, log_variance: float) -> Autoencoder:
    """Widen the posterior, so that its variance is visible in samples."""
    channels = space.latent_shape[0]
    space.vae.quant_conv.weight.data[channels:] = 0
    space.vae.quant_conv.bias.data[channels:] = log_variance
    return space


def test_posterior_samples_of_the_training_split_have_mean_0_and_std_1(synthetic_dataset: Path) -> None:
    space, examples = encoding(wide(autoencoder(), -1.0)), pictures(synthetic_dataset, 60)

    fit_statistics(space, examples, Accelerator(cpu=True))

    x = examples[range(60)][0]
    mean, std = by_channel(space(x, torch.Generator().manual_seed(0)))
    assert mean.abs().max() < 0.05 and (std - 1).abs().max() < 0.05
    assert by_channel(space(x))[1].max() < 0.9  # only the posterior means


def test_without_sampling_posterior_means_of_the_training_split_have_mean_0_and_std_1(synthetic_dataset: Path) -> None:
    space, examples = encoding(wide(autoencoder(), -1.0), sample_posterior=False), pictures(synthetic_dataset, 60)

    fit_statistics(space, examples, Accelerator(cpu=True))

    x = examples[range(60)][0]
    mean, std = by_channel(space(x, torch.Generator().manual_seed(0)))
    assert mean.abs().max() < 1e-5 and (std - 1).abs().max() < 1e-5
    assert torch.equal(space(x, torch.Generator()), space(x))


def test_statistics_come_from_examples_spread_over_the_split_and_are_checked_on_others(
    synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "MEASURED_EXAMPLES", 30)
    space, seen = encoding(), []
    examples = pictures(synthetic_dataset, 90)
    monkeypatch.setattr(Encoding, "moments", lambda self, x: seen.append(x) or self.autoencoder.moments(x))

    fit_statistics(space, examples, Accelerator(cpu=True))

    assert torch.equal(seen[0], examples[range(0, 90, 3)][0])
    assert torch.equal(torch.cat(seen[1:]), examples[[i for i in range(90) if i % 3]][0])


def test_statistics_that_do_not_fit_other_examples_are_a_warning(
    synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latents, "MEASURED_EXAMPLES", 2)

    lines = fit_statistics(encoding(sample_posterior=False), pictures(synthetic_dataset, 40), Accelerator(cpu=True))

    assert lines[-1].startswith("warning: the latents of 38 other training examples deviate from mean 0 and std 1 by")
    assert "channels (channel " in lines[-1]


def test_statistics_of_an_earlier_run_are_checked_on_these_examples_and_kept(synthetic_dataset: Path) -> None:
    space, examples = encoding(), pictures(synthetic_dataset, 40)
    fit_statistics(space, examples, Accelerator(cpu=True))
    own = space.autoencoder.statistics
    assert own is not None and check_statistics(space, examples, Accelerator(cpu=True)) == []
    others = LatentStatistics(own.mean, (own.std[0] * 2, *own.std[1:]))
    space.autoencoder.normalise(others)

    [line] = check_statistics(space, examples, Accelerator(cpu=True))

    assert line.startswith(
        "warning: the latents of 40 training examples deviate from mean 0 and std 1 by more than 0.05 in 1 of"
    )
    assert "std 0.500) with the statistics of model.pretrained, which are kept" in line
    assert space.autoencoder.statistics == others


@pytest.mark.parametrize(("scaling", "odd"), [(1.0, False), (0.2, True), (5.0, True)])
def test_own_scaling_far_from_unit_variance_is_a_warning(scaling: float, odd: bool, synthetic_dataset: Path) -> None:
    examples = pictures(synthetic_dataset, 40)
    unit = encoding(sample_posterior=False)
    fit_statistics(unit, examples, Accelerator(cpu=True))
    assert unit.autoencoder.statistics is not None
    space = autoencoder()  # its channels get a standard deviation of `scaling` each
    gains = scaling / torch.tensor(unit.autoencoder.statistics.std)
    space.vae.quant_conv.weight.data[:4] *= gains[:, None, None, None]

    lines = fit_statistics(encoding(space, sample_posterior=False), examples, Accelerator(cpu=True))

    warning = "warning: with the autoencoder's own scaling, 4 of 4 latent channels have a standard deviation below 0.5"
    assert any(line.startswith(warning) for line in lines) == odd
    assert not odd or f"({scaling:.2f} to {scaling:.2f})" in lines[0]


def test_a_constant_channel_keeps_its_scale(synthetic_dataset: Path) -> None:
    space = wide(autoencoder(), -40.0)
    space.vae.quant_conv.weight.data[1] = 0
    space.vae.quant_conv.bias.data[1] = 0.3

    fit_statistics(encoding(space, sample_posterior=False), pictures(synthetic_dataset, 20), Accelerator(cpu=True))

    assert space.statistics is not None and space.statistics.std[1] == 1 and space.statistics.std[0] < 1
    z = space.encode(pictures(synthetic_dataset, 20)[range(20)][0])
    assert z.isfinite().all() and z[:, 1].abs().max() < 1e-6


def test_latents_that_are_not_finite_are_one_line(synthetic_dataset: Path) -> None:
    space = autoencoder()
    space.vae.quant_conv.bias.data[0] = float("nan")
    with pytest.raises(
        UserError, match=r"^\[model.autoencoder\] path: the latents of the training examples are not finite"
    ):
        fit_statistics(encoding(space), pictures(synthetic_dataset, 20), Accelerator(cpu=True))
