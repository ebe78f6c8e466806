"""Samples given a part of their values have the conditional mean and covariance of a known Gaussian process."""

from dataclasses import replace

import pytest
import torch

from signal_diffusion.config import schema
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.methods import METHODS, PREDICTIONS, Method
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.errors import UserError
from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning
from tests.diffusion import oracles
from tests.diffusion.test_generation import COVARIANCE, LENGTH, SPECTRUM, perfect

COUNT = 300
GIVEN = torch.rand(LENGTH, generator=torch.Generator().manual_seed(0)) < 0.4
VALUES = torch.linalg.cholesky(COVARIANCE) @ torch.randn(
    LENGTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64
)
GAIN = COVARIANCE[~GIVEN][:, GIVEN] @ torch.linalg.inv(COVARIANCE[GIVEN][:, GIVEN])
MEAN, CONDITIONAL = GAIN @ VALUES[GIVEN], COVARIANCE[~GIVEN][:, ~GIVEN] - GAIN @ COVARIANCE[GIVEN][:, ~GIVEN]
VARIANCES, AXES = torch.linalg.eigh(CONDITIONAL)


class PerfectGivenValues(torch.nn.Module):
    """The perfect network that takes given values, at the same places of all examples."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> torch.Tensor:
        assert cond.known is not None
        mask, values = cond.known.mask[0].flatten(), cond.known.values.double().flatten(1)
        alpha, sigma = (value.double()[:, None] for value in self.method.schedule(t))
        mean = GAIN @ values[0, mask]
        missing = x.double().flatten(1)[:, ~mask]
        estimates = oracles.gaussian(missing, alpha, sigma, mean=mean, variances=VARIANCES, axes=AXES)
        a, b = PREDICTIONS[self.method.prediction](alpha, sigma)
        prediction = torch.full_like(values, 1e3)  # nothing is learnt of given values
        prediction[:, ~mask] = a * estimates[0] + b * estimates[1]
        return prediction.float().view_as(x)


def restored(generator: SampleGenerator, network: torch.nn.Module, count: int = COUNT) -> torch.Tensor:
    """Samples given VALUES (count, LENGTH), as double, for data of size 1."""
    shape, size = (count, 1, 1, LENGTH), generator.method.normalisation.std[0][0]
    known = Known((VALUES * size).float().expand(shape), GIVEN.expand(shape))
    samples = generator.generate(network, Conditioning(known=known), range(count), batch_size=count)
    assert torch.equal(samples[:, 0, 0, GIVEN], known.values[:, 0, 0, GIVEN])
    return samples.flatten(1).double() / size


def error_of_mean(samples: torch.Tensor) -> float:
    """Distance of the mean from the conditional one, in conditional standard deviations."""
    distance = samples[:, ~GIVEN].mean(0) - MEAN
    return (distance.norm() / CONDITIONAL.trace().sqrt()).item()


def ratio_of_variances(samples: torch.Tensor) -> float:
    return (samples[:, ~GIVEN].var(0).sum() / CONDITIONAL.trace()).item()


@pytest.mark.parametrize("size", [1.0, 0.04])
@pytest.mark.parametrize("sampler", ["euler", "ddpm", "heun", "rk4", "dpm++2m"])
@pytest.mark.parametrize("name", ["rectified_flow", "ddpm"])
def test_a_network_that_takes_given_values_is_sampled_exactly(name: str, sampler: str, size: float) -> None:
    method = replace(METHODS[name](), normalisation=Normalisation(std=((size,),)))
    sampling = schema.Sampling(sampler=sampler, steps=50)
    generator = SampleGenerator(method=method, sampling=sampling, shape=(1, 1, LENGTH), takes_known=True)
    samples = restored(generator, PerfectGivenValues(method))
    assert error_of_mean(samples) < 0.1
    assert ratio_of_variances(samples) == pytest.approx(1, abs=0.15)
    covariance = torch.cov(samples[:, ~GIVEN].T)
    assert (covariance - CONDITIONAL).norm() / CONDITIONAL.norm() < 0.35  # 0.25 of 300 exact samples


def test_replacement_comes_close_to_the_conditional_distribution_with_many_repetitions() -> None:
    method, count = METHODS["rectified_flow"](), 100
    errors = {}
    for repeats in (1, 40):
        sampling = schema.Sampling(sampler="heun", steps=30, resampling_steps=repeats)
        generator = SampleGenerator(method=method, sampling=sampling, shape=(1, 1, LENGTH))
        samples = restored(generator, perfect(method, 1.0), count)
        errors[repeats] = error_of_mean(samples)
    assert errors[1] > 0.5
    assert errors[40] < 0.25
    assert ratio_of_variances(samples) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("takes_known", [True, False])
def test_a_sample_given_values_does_not_depend_on_the_rest_of_the_batch(takes_known: bool) -> None:
    method = METHODS["rectified_flow"]()
    sampling = schema.Sampling(sampler="ddpm", steps=4, resampling_steps=2)
    generator = SampleGenerator(method=method, sampling=sampling, shape=(1, 1, LENGTH), takes_known=takes_known)
    network = PerfectGivenValues(method) if takes_known else perfect(method, 1.0)
    few, many = restored(generator, network, 2), restored(generator, network, 5)
    assert torch.allclose(few, many[:2], atol=1e-5)


def test_nothing_is_given_to_a_network_of_pink_noise() -> None:
    method = replace(METHODS["rectified_flow"](), normalisation=Normalisation(spectrum=SPECTRUM))
    generator = SampleGenerator(method=method, sampling=schema.Sampling(steps=2), shape=(1, 1, LENGTH))
    with pytest.raises(UserError, match=r"^\[model.diffusion\] noise: .* generates whole windows only; .* \"white\""):
        restored(generator, perfect(method, 1.0), 2)


def test_samples_by_replacement_are_not_guided() -> None:
    """Guidance of a repeated step would add up."""

    class Drifting(torch.nn.Module):
        """Says more of x0 if it is conditioned."""

        def forward(self, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> torch.Tensor:
            return x * (1 + 0.1 * (cond.attributes["label"] >= 0))[:, None, None, None]

    found = []
    for scale in (1.0, 3.0):
        sampling = schema.Sampling(sampler="heun", steps=4, resampling_steps=3, guidance_scale=scale)
        generator = SampleGenerator(method=METHODS["rectified_flow"](), sampling=sampling, shape=(1, 1, LENGTH))
        known = Known(VALUES.float().expand(2, 1, 1, -1), GIVEN.expand(2, 1, 1, -1))
        labelled = Conditioning({"label": torch.zeros(2, dtype=torch.int64)})
        whole, rest = (generator.generate(Drifting(), labelled.with_known(given), range(2)) for given in (None, known))
        found.append((whole, rest))
    assert torch.equal(found[0][1], found[1][1]) and not torch.equal(found[0][0], found[1][0])


def test_guidance_leaves_given_values_in_place() -> None:
    mask = torch.ones(2, 1, 1, LENGTH, dtype=torch.bool)
    cond = Conditioning({"label": torch.zeros(2, dtype=torch.int64)}, Known(torch.zeros(2, 1, 1, LENGTH), mask))
    dropped = cond.drop(torch.ones(2, dtype=torch.bool))
    assert dropped.attributes["label"].tolist() == [-1, -1]
    assert dropped.known is cond.known
