"""Sampling from a network: samples have the size of the data."""

from dataclasses import replace

import pytest
import torch

from signal_diffusion.config import schema
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.methods import METHODS, PREDICTIONS, Method
from signal_diffusion.diffusion.normalisation import Normalisation, cosines
from signal_diffusion.models.conditioning.attributes import Conditioning
from tests.diffusion import oracles

LENGTH, COUNT = 32, 2000
COVARIANCE = oracles.autoregression((1.2, -0.6), LENGTH)
COVARIANCE /= COVARIANCE.diagonal().mean()
VARIANCES, AXES = torch.linalg.eigh(COVARIANCE)  # 0.1 to 7 of the mean
SPECTRUM = tuple((cosines(LENGTH).T @ COVARIANCE @ cosines(LENGTH)).diagonal().sqrt().tolist())
DEFAULTS = schema.Sampling()


def perfect(method: Method, size: float) -> torch.nn.Module:
    """The perfect network for Gaussian data of standard deviation `size`, with the prediction of `method`."""
    normalised = method.normalisation.normalised
    covariance = normalised(normalised(size**2 * COVARIANCE[None]).mT)[0]  # of x0
    variances, axes = torch.linalg.eigh(covariance)

    class Perfect(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> torch.Tensor:
            alpha, sigma = (value.double()[:, None] for value in method.schedule(t))
            mean = torch.zeros(LENGTH)
            x0, noise = oracles.gaussian(x.double().flatten(1), alpha, sigma, mean=mean, variances=variances, axes=axes)
            a, b = PREDICTIONS[method.prediction](alpha, sigma)
            return (a * x0 + b * noise).float().view_as(x)

    return Perfect()


def powers(method: Method, size: float, sampling: schema.Sampling = DEFAULTS) -> torch.Tensor:
    """Power of samples divided by that of the data, along each axis."""
    generator = SampleGenerator(method=method, sampling=sampling, shape=(1, 1, LENGTH))
    samples = generator.generate(perfect(method, size), Conditioning(), range(COUNT), batch_size=COUNT)
    return (samples.flatten(1).double() @ AXES).square().mean(0) / (VARIANCES * size**2)


@pytest.mark.parametrize("name", ["rectified_flow", "ddpm"])
def test_small_data_divided_by_their_size_keep_their_power_in_every_direction(name: str) -> None:
    method, size = METHODS[name](), 0.04
    # most of the tolerance is for the error of Euler in 50 steps
    assert powers(replace(method, normalisation=Normalisation(std=((size,),))), size).numpy() == pytest.approx(
        1, abs=0.2
    )


@pytest.mark.parametrize("sampler", ["euler", "euler-stochastic", "ddim", "ddpm", "heun", "rk4", "dpm++2m"])
@pytest.mark.parametrize("name", ["rectified_flow", "ddpm"])
def test_data_keep_their_power_in_every_direction_of_pink_noise(name: str, sampler: str) -> None:
    method = replace(METHODS[name](), normalisation=Normalisation(std=((0.04,),), spectrum=SPECTRUM))
    sampling = schema.Sampling(sampler=sampler, steps=40 if sampler == "ddpm" else 20)
    assert powers(method, 0.04, sampling).numpy() == pytest.approx(1, abs=0.3)


def test_small_data_not_divided_by_their_size_lose_power_in_the_weakest_directions() -> None:
    found = powers(METHODS["rectified_flow"](), 0.04)
    assert found[: LENGTH // 2].mean() < 0.5


def test_intermediate_states_have_the_size_of_the_data() -> None:
    method, seen = replace(METHODS["rectified_flow"](), normalisation=Normalisation(std=((0.04,),))), []
    generator = SampleGenerator(method=method, sampling=schema.Sampling(steps=4), shape=(1, 1, LENGTH))
    samples = generator.generate(
        perfect(method, 0.04),
        Conditioning(),
        range(3),
        on_step=lambda rows, step, x, x0: seen.append((x, x0)),
    )
    assert torch.equal(seen[-1][0], samples) and torch.allclose(seen[-1][1], samples)
    noise = generator.first_noise(range(3))
    assert noise.std() == pytest.approx(0.04, rel=0.2)
    # the first of four Euler steps along the straight line from the noise to the network's estimate of x0
    assert torch.allclose(seen[0][0], 0.75 * noise + 0.25 * seen[0][1], atol=1e-6)


def test_a_stop_is_noticed_between_two_evaluations_of_the_network() -> None:
    method, evaluations, stopped = METHODS["rectified_flow"](), [0], 3
    network = perfect(method, 1.0)
    network.register_forward_pre_hook(lambda module, arguments: evaluations.append(evaluations[-1] + 1))
    generator = SampleGenerator(method=method, sampling=schema.Sampling(steps=100), shape=(1, 1, LENGTH))

    def poll() -> None:
        if evaluations[-1] == stopped:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        generator.generate(network, Conditioning(), range(4), on_evaluation=poll)
    assert evaluations[-1] == stopped
