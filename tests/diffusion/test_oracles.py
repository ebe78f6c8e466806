"""Every sampler on every method and prediction, with networks that are perfect in closed form.

The data are 15 numbers at a time: two that are independent, three that are correlated, 8 samples of a stationary AR(2)
process, and two of a mixture of Gaussians. Generated samples must have their moments within sampling error.
Deterministic samplers start from noise with exact moments, which reduces that error.
"""

import pytest
import torch

from signal_diffusion.diffusion.methods import PREDICTIONS, ddpm, rectified_flow
from signal_diffusion.diffusion.samplers import SAMPLERS, ddim
from signal_diffusion.diffusion.schedules import BETA_SCHEDULES
from signal_diffusion.diffusion.time_grids import TIME_GRIDS, uniform
from tests.diffusion.oracles import autoregression, gaussian, mixture

METHODS = [
    *(pytest.param(ddpm(prediction=p), id=f"ddpm-{p}") for p in PREDICTIONS),
    pytest.param(ddpm(prediction="v", zero_terminal_snr=True), id="zero-v"),
    *(pytest.param(rectified_flow(prediction=p), id=f"flow-{p}") for p in PREDICTIONS),
]

STEPS = {name: {"heun": 100, "rk4": 50}.get(name, 200) for name in SAMPLERS}
"""At most 200 evaluations of the network for each sampler."""

CORRELATED = torch.tensor([[0.4, 0.3, -0.1], [0.3, 0.5, 0.1], [-0.1, 0.1, 0.2]])
PROCESS = autoregression((1.2, -0.7), 8).float() / 6
MEAN = torch.cat([torch.tensor([0.5, -1.0, 0.2, 0.3, -0.4]), torch.zeros(8)])
COVARIANCE = torch.block_diag(torch.tensor([0.3, 0.9]).square().diag(), CORRELATED, PROCESS)
VARIANCES, AXES = torch.linalg.eigh(COVARIANCE)

WEIGHTS = torch.tensor([0.3, 0.7])
MEANS = torch.tensor([[-1.0, 0.5], [0.8, -0.2]])
STDS = torch.tensor([[0.3, 0.2], [0.2, 0.4]])


def perfect(method):
    """E[x0 | x_t] and E[ε | x_t], converted to the method's prediction and back."""

    def denoise(xt, t, step=None):
        alpha, sigma = (value[:, None, None] for value in method.schedule(t))
        normal = gaussian(xt[..., :13], alpha, sigma, mean=MEAN, variances=VARIANCES, axes=AXES)
        mixed = mixture(xt[..., 13:], alpha, sigma, weights=WEIGHTS, means=MEANS, stds=STDS)
        x0, eps = (torch.cat(pair, dim=-1) for pair in zip(normal, mixed, strict=True))
        return method.split(xt, method.target(x0, eps, t), t)

    return denoise


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(8))


def exactly_normal(*shape):
    """Noise of mean 0 and covariance 1 to rounding, over all but the last axis."""
    noise = normal(*shape).double().flatten(0, -2)
    noise -= noise.mean(0)
    return (
        torch.linalg.solve_triangular(torch.linalg.cholesky(noise.T.cov()), noise.T, upper=False).T.float().view(shape)
    )


def samples_of(sampler, method, times):
    """Independent samples (n, 15), in 8 examples: 512 from a stochastic sampler, else 1024."""
    generators = [torch.Generator().manual_seed(i) for i in range(8)]
    noise = normal(8, 64, 15) if sampler.stochastic else exactly_normal(8, 128, 15)
    return sampler(perfect(method), method.schedule, noise, times, generators).flatten(0, 1)


def assert_sampled_as_the_data(sampler, method, times):
    deviations = 5 if sampler.stochastic else 2
    assert_distributed_as_the_data(samples_of(sampler, method, times), deviations)


def assert_distributed_as_the_data(samples, deviations):
    n = len(samples)
    mean = torch.cat([MEAN, WEIGHTS @ MEANS])
    between = MEANS - WEIGHTS @ MEANS
    mixed = (WEIGHTS @ STDS.square()).diag() + between.T @ (WEIGHTS[:, None] * between)
    covariance = torch.block_diag(COVARIANCE, mixed)
    variance = covariance.diag()
    assert ((samples.mean(0) - mean).abs() < deviations * (variance / n).sqrt()).all()

    error = (variance[:, None] * variance + covariance.square()).div(n).sqrt()
    assert ((samples.T.cov() - covariance).abs() < deviations * error).all()

    waves = torch.fft.rfft(torch.eye(8)).T
    spectrum = torch.einsum("fi,ij,fj->f", waves, PROCESS + 0j, waves.conj()).real
    found = torch.fft.rfft(samples[:, 5:13]).abs().square().mean(0)
    assert ((found / spectrum - 1).abs() < deviations * torch.tensor([2.0, 1.0, 1.0, 1.0, 2.0]).div(n).sqrt()).all()

    left = samples[:, 13] < -0.2  # 2.7 and 5 standard deviations from the two means
    assert abs(left.float().mean() - 0.3) < deviations * (0.21 / n) ** 0.5
    for rows, std in zip((samples[left], samples[~left]), STDS, strict=True):
        assert ((rows[:, 13:].std(0) / std - 1).abs() < deviations * (2 * len(rows)) ** -0.5).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "steps"), STEPS.items())
def test_samples_of_a_perfect_network_are_distributed_as_the_data(name, steps, method):
    assert_sampled_as_the_data(SAMPLERS[name], method, uniform(method, steps))


@pytest.mark.parametrize("beta_schedule", BETA_SCHEDULES)
def test_samples_are_distributed_as_the_data_on_every_noise_schedule(beta_schedule):
    method = ddpm(beta_schedule=beta_schedule)

    assert_sampled_as_the_data(SAMPLERS["euler"], method, uniform(method, 200))


@pytest.mark.parametrize(
    ("grid", "name", "method"),
    [
        ("karras", "ddpm", ddpm(prediction="v")),
        ("karras", "heun", ddpm(prediction="epsilon")),
        ("karras", "dpm++2m", rectified_flow()),
        ("karras", "euler-stochastic", rectified_flow(prediction="sample")),
        ("shifted", "rk4", rectified_flow()),
        ("shifted", "ddpm", rectified_flow(prediction="epsilon")),
    ],
)
def test_samples_are_distributed_as_the_data_on_every_time_grid(grid, name, method):
    times = TIME_GRIDS[grid](method, STEPS[name])

    assert_sampled_as_the_data(SAMPLERS[name], method, times)


def test_samples_are_distributed_as_the_data_with_half_of_the_ancestral_noise():
    method = ddpm(prediction="v")

    assert_sampled_as_the_data(ddim(0.5), method, uniform(method, 200))


def test_the_check_detects_a_prediction_taken_for_another():
    trained, taken_for = rectified_flow(prediction="epsilon"), rectified_flow(prediction="velocity")
    noise = exactly_normal(8, 128, 15)

    def mistaken(xt, t, step):
        return taken_for.split(xt, trained.target(*perfect(trained)(xt, t), t), t)

    samples = SAMPLERS["euler"](mistaken, trained.schedule, noise, uniform(trained, 50))

    with pytest.raises(AssertionError):
        assert_distributed_as_the_data(samples.flatten(0, 1), 5)


@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_the_check_detects_samples_5_percent_too_small_or_too_large(factor):
    method = rectified_flow()
    mean = torch.cat([MEAN, WEIGHTS @ MEANS])
    samples = samples_of(SAMPLERS["dpm++2m"], method, uniform(method, 50))
    assert_distributed_as_the_data(samples, 2)

    with pytest.raises(AssertionError):
        assert_distributed_as_the_data(mean + factor * (samples - mean), 2)
