import pytest
import torch

from signal_diffusion.diffusion.methods import PREDICTIONS, ddpm, rectified_flow
from signal_diffusion.diffusion.samplers import SAMPLERS, ddim, euler
from signal_diffusion.diffusion.schedules import BETA_SCHEDULES

MEAN = torch.tensor([0.5, -1.0, 0.2])
STD = torch.tensor([0.3, 0.2, 0.9])

METHODS = [
    *(pytest.param(ddpm(prediction=p), id=f"ddpm-{p}") for p in PREDICTIONS),
    *(pytest.param(ddpm(beta_schedule=b), id=f"ddpm-{b}") for b in BETA_SCHEDULES),
    *(pytest.param(ddpm(prediction=p, zero_terminal_snr=True), id=f"zero-{p}") for p in ("sample", "v", "velocity")),
    *(pytest.param(rectified_flow(prediction=p), id=f"flow-{p}") for p in PREDICTIONS),
]


def gaussian_oracle(method):
    """The exact network for data N(MEAN, STD²): the prediction of E[x0 | x_t] and E[ε | x_t]."""

    def denoise(xt, t):
        alpha, sigma = (value[:, None] for value in method.schedule(t))
        surprise = (xt - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        return method.target(MEAN + alpha * STD**2 * surprise, sigma * surprise, t)

    return denoise


def some_network(xt, t):
    return torch.tanh(0.7 * xt + t[:, None]) - 0.2


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generators(n, *, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def assert_has_moments(samples):
    n = len(samples)
    assert ((samples.mean(0) - MEAN).abs() < 4 * STD / n**0.5).all()
    assert ((samples.var(0) / STD**2 - 1).abs() < 4 * (2 / n) ** 0.5).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_exact_networks_yield_the_mean_and_variance_of_the_data(method, sampler):
    samples = sampler(gaussian_oracle(method), method, normal(1000, 3), steps=200)

    assert_has_moments(samples)


@pytest.mark.parametrize("method", [ddpm(), ddpm(prediction="v", zero_terminal_snr=True), rectified_flow()])
def test_ancestral_ddim_yields_the_mean_and_variance_of_the_data(method):
    samples = ddim(gaussian_oracle(method), method, normal(400, 3), 200, generators(400), eta=1.0)

    assert_has_moments(samples)


def test_a_small_error_of_an_epsilon_network_stays_small():
    method = ddpm(prediction="epsilon", beta_schedule="cosine")
    oracle = gaussian_oracle(method)

    samples = euler(lambda xt, t: oracle(xt, t) + 0.01, method, normal(1000, 3), steps=50)

    assert ((samples.mean(0) - MEAN).abs() < 0.1).all()


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize(
    ("prediction", "theirs_name"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("sample", "sample")]
)
def test_ddim_takes_the_steps_of_diffusers(prediction, theirs_name, eta):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(
        prediction_type=theirs_name, clip_sample=False, timestep_spacing="trailing", beta_schedule="linear"
    )
    theirs.set_timesteps(10)
    x, generator = normal(1, 6), torch.Generator().manual_seed(3)
    for i in theirs.timesteps:
        z = torch.randn(6, generator=generator)[None]
        output = some_network(x, (i[None] + 1) / 1000)
        x = theirs.step(output, i, x, eta=eta, variance_noise=z).prev_sample

    method = ddpm(prediction=prediction, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    ours = ddim(some_network, method, normal(1, 6), 10, generators(1, first=3), eta=eta)

    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-4)


def test_euler_on_a_flow_is_the_textbook_step_along_the_velocity():
    x = normal(4, 3)
    expected = x.clone()
    for i in range(8):
        expected -= some_network(expected, torch.full((4,), 1 - i / 8)) / 8

    torch.testing.assert_close(euler(some_network, rectified_flow(), x, 8), expected, rtol=1e-4, atol=1e-5)


def test_error_falls_with_the_first_power_of_the_step():
    method = rectified_flow()
    noise = normal(100, 3)
    exact = MEAN + STD * noise

    coarse, fine = ((euler(gaussian_oracle(method), method, noise, steps) - exact).norm() for steps in (50, 100))

    assert 1.8 < coarse / fine < 2.2


def test_a_sample_does_not_depend_on_those_around_it():
    method, noise = ddpm(), normal(5, 3)

    together = ddim(some_network, method, noise, 10, generators(5), eta=1.0)
    alone = ddim(some_network, method, noise[3:4], 10, generators(1, first=3), eta=1.0)

    assert torch.equal(together[3:4], alone)


def test_a_stochastic_sampler_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()

    ddim(some_network, ddpm(), normal(2, 3), 5, generators(2), eta=1.0)

    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ValueError, match="one generator per example"):
        ddim(some_network, ddpm(), normal(2, 3), 5, eta=1.0)


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_steps_are_reported_and_cost_one_call_each(sampler):
    calls, reported = [], []

    def denoise(xt, t):
        calls.append(t)
        return some_network(xt, t)

    sampler(denoise, ddpm(), normal(2, 3), 7, on_step=reported.append)

    assert len(calls) == 7
    assert reported == list(range(7))


def test_state_is_float32_under_a_bfloat16_network():
    samples = euler(lambda xt, t: some_network(xt, t).bfloat16(), rectified_flow(), normal(2, 3).bfloat16(), 4)

    assert samples.dtype == torch.float32
