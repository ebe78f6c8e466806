"""Samples lie in the subspace of the data, and an error of the network outside it has no effect inside."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.methods import METHODS, PREDICTIONS, Method
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.known import Known
from signal_diffusion.models.conditioning.attributes import Conditioning

SHAPE = (1, 6, 16)
SAMPLERS = ["euler", "euler-stochastic", "ddpm", "heun", "rk4", "dpm++2m"]


def centred(x0: Tensor) -> Tensor:
    """Electrodes (rows) that average to zero."""
    return x0 - x0.mean(2, keepdim=True)


class Gaussian(nn.Module):
    """Predicts for independent values of variance 1 within the subspace, and adds `error` to x0 outside it."""

    def __init__(self, method: Method, error: float = 0.0) -> None:
        super().__init__()
        self.method, self.error = method, error

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        alpha, sigma = (value.view(-1, 1, 1, 1) for value in self.method.schedule(t))
        x0 = alpha * centred(x) / (alpha.square() + sigma.square()) + self.error
        a, b = PREDICTIONS[self.method.prediction](alpha, sigma)
        return a * x0 + b * (x - alpha * x0) / sigma.clamp(min=1e-6)


def samples(network: nn.Module, generator: SampleGenerator, known: Known | None = None) -> Tensor:
    count = len(known) if known else 64
    return generator.generate(network, Conditioning({"label": torch.zeros(count).long()}, known), range(count))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", METHODS)
def test_an_error_outside_the_subspace_is_removed_and_changes_nothing_inside(name: str, sampler: str) -> None:
    method = replace(METHODS[name](), normalisation=Normalisation(std=((0.1,),)))
    sampling = schema.Sampling(sampler=sampler, steps=20)
    free = SampleGenerator(method=method, sampling=sampling, shape=SHAPE)
    projecting = replace(free, project=centred)

    wrong, mended = samples(Gaussian(method, 0.3), free), samples(Gaussian(method, 0.3), projecting)

    assert wrong.mean(2).abs().mean() > 0.02
    assert mended.mean(2).abs().max() < 1e-6
    torch.testing.assert_close(mended, samples(Gaussian(method), projecting), atol=1e-5, rtol=0)
    torch.testing.assert_close(mended, centred(samples(Gaussian(method), free)), atol=1e-5, rtol=0)


def test_examples_given_at_some_electrodes_are_not_projected() -> None:
    method = METHODS["rectified_flow"]()
    generator = SampleGenerator(method=method, sampling=schema.Sampling(steps=8), shape=SHAPE, project=centred)
    mask = torch.zeros(2, *SHAPE, dtype=torch.bool)
    mask[0, :, :2], mask[1, ..., :5] = True, True  # two electrodes; the beginning of all
    known = Known(centred(torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))), mask)

    some, beginning = samples(Gaussian(method, 0.3), generator, known)

    assert some.mean(1).abs().max() > 0.1
    assert beginning.mean(1).abs().max() < 1e-6
    assert torch.equal(beginning[mask[1]], known.values[1][mask[1]])
