"""The autoencoder that we train."""

from __future__ import annotations

import pytest
import torch

from signal_diffusion.config.autoencoder_tables import KlArchitecture
from signal_diffusion.models.autoencoders.trainable import KlAutoencoder

SMALL = KlArchitecture(block_out_channels=(4, 4, 8, 8), norm_num_groups=2, latent_channels=4)


def network(shape: tuple[int, int, int]) -> KlAutoencoder:
    torch.manual_seed(0)
    return KlAutoencoder(SMALL, shape)


@pytest.mark.parametrize(
    ("shape", "latent"),
    [((3, 64, 64), (4, 8, 8)), ((1, 20, 2048), (4, 3, 256)), ((1, 19, 100), (4, 3, 13))],
    ids=str,
)
def test_reconstructions_have_the_size_of_the_examples(
    shape: tuple[int, int, int], latent: tuple[int, int, int]
) -> None:
    model = network(shape)
    with torch.no_grad():
        reconstruction, mean, log_variance = model(torch.zeros(2, *shape))
    assert reconstruction.shape == (2, *shape)
    assert mean.shape == log_variance.shape == (2, *latent) == (2, *model.latent_shape)


def test_latents_are_drawn_with_the_given_noise() -> None:
    model = network((1, 32, 32)).eval()
    x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        reconstruction, mean, log_variance = model(x, noise)
        expected = model.vae.decode(mean + (log_variance / 2).exp() * noise).sample
        assert torch.equal(reconstruction, expected)
        assert torch.equal(model(x, 0 * noise)[0], model(x)[0])
        assert not torch.equal(reconstruction, model(x)[0])


def test_every_parameter_gets_a_gradient_as_several_processes_require() -> None:
    model = network((3, 32, 32))
    reconstruction, mean, log_variance = model(torch.rand(2, 3, 32, 32), torch.randn(2, *model.latent_shape))
    (reconstruction.square().mean() + mean.square().mean() + log_variance.square().mean()).backward()
    assert all(value.grad is not None for value in model.parameters())
    assert model.vae.encoder.conv_in.weight.grad.abs().sum() > 0


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointing in (False, True):
        model = network((1, 32, 32))
        if checkpointing:
            model.checkpoint_gradients()
        x = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
        model(x)[0].square().mean().backward()
        gradients.append(torch.cat([value.grad.flatten() for value in model.parameters() if value.grad is not None]))
    assert torch.equal(*gradients) and gradients[0].abs().sum() > 0


def test_blocks_contain_all_layers_but_the_first_and_last() -> None:
    model = network((1, 32, 32))
    inside = {id(value) for value in model.blocks.parameters()}
    outside = {name.split(".")[2] for name, value in model.named_parameters() if id(value) not in inside}
    assert outside == {"conv_in", "conv_norm_out", "conv_out"}


def test_the_saved_factors_normalise_drawn_latents() -> None:
    model = network((1, 32, 32))
    x = torch.rand(20, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model.in_diffusers_format(x)
    with torch.no_grad():
        mean, log_variance = model.posterior(x.repeat(20, 1, 1, 1))
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    z = mean + (log_variance / 2).exp() * noise
    z = (z - model.vae.config.shift_factor) * model.vae.config.scaling_factor
    assert z.mean().item() == pytest.approx(0, abs=0.01) and z.var().item() == pytest.approx(1, abs=0.02)
