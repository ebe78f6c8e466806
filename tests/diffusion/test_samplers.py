import re
from functools import cache
from pathlib import Path

import pytest
import torch

from signal_diffusion.diffusion.methods import ddpm, rectified_flow
from signal_diffusion.diffusion.samplers import SAMPLERS, ddim
from signal_diffusion.diffusion.schedules import BetaSchedule, LinearSchedule
from signal_diffusion.diffusion.time_grids import uniform
from tests.diffusion.oracles import mixture

DOCUMENT = Path(__file__).parents[2] / "docs" / "sampling.md"
MIXED = {
    "weights": torch.tensor([0.3, 0.7]),
    "means": torch.tensor([[-1.0, 0.5], [1.0, -0.2]]),
    "stds": torch.tensor([[0.6, 0.5], [0.7, 0.8]]),
}
SCHEDULES = [LinearSchedule(), BetaSchedule(name="linear"), BetaSchedule(name="cosine", zero_terminal_snr=True)]


def some_network(xt, t):
    return torch.tanh(0.7 * xt + t[:, None]) - 0.2


def estimates_of(method, network=some_network):
    return lambda xt, t, step=None: method.split(xt, network(xt, t), t)


def sampled(name, method, noise, steps, generators=None, **options):
    return SAMPLERS[name](estimates_of(method), method.schedule, noise, uniform(method, steps), generators, **options)


def smooth(schedule):
    """E[x0 | x_t] and E[ε | x_t] of a mixture with overlapping components."""

    def denoise(xt, t, step=None):
        alpha, sigma = (value[:, None] for value in schedule(t))
        return mixture(xt, alpha, sigma, **MIXED)

    return denoise


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generators(n, *, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def even_angles(schedule, steps):
    alpha, sigma = schedule(torch.ones(1, dtype=torch.float64))
    return schedule.time_of(torch.atan2(sigma, alpha) * torch.linspace(1, 0, steps + 1, dtype=torch.float64))


def even_log_ratios(schedule, steps):
    log_ratios = torch.linspace(-2, 4, steps + 1, dtype=torch.float64)
    return torch.cat([schedule.time_of((-log_ratios).exp().atan()), torch.zeros(1, dtype=torch.float64)])


@cache
def end_of(name, schedule, steps):
    """The result of a sampler on the smooth field, in float64."""
    return SAMPLERS[name](smooth(schedule), schedule, normal(16, 2, dtype=torch.float64), even_angles(schedule, steps))


def order_of(errors, counts):
    """Slope of log(error) over −log(steps), by least squares."""
    design = torch.stack([-torch.tensor(counts).double().log(), torch.ones(len(counts)).double()], dim=1)
    return torch.linalg.lstsq(design, torch.stack(errors).log()[:, None]).solution[0].item()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["flow", "linear", "zero"])
@pytest.mark.parametrize(
    ("name", "order", "counts"), [("euler", 1, (40, 80, 160)), ("heun", 2, (25, 50, 100)), ("rk4", 4, (12, 24, 48))]
)
def test_samplers_have_their_order_of_convergence(name, order, counts, schedule):
    ends = [end_of(name, schedule, steps) for steps in counts]

    errors = [(end - end_of("rk4", schedule, 200)).norm() for end in ends]

    assert order_of(errors, counts) == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["flow", "linear", "zero"])
def test_dpm_plus_plus_2m_is_of_second_order_in_log_alpha_over_sigma(schedule):
    noise, denoise, counts, states = normal(16, 2, dtype=torch.float64), smooth(schedule), (30, 60, 120), {}

    def before_the_last_step(name, steps):
        times = even_log_ratios(schedule, steps)
        SAMPLERS[name](denoise, schedule, noise, times, on_step=lambda i, x, x0: states.update({i: x}))
        return states[steps - 1]

    exact = before_the_last_step("rk4", 150)
    errors = [(before_the_last_step("dpm++2m", n) - exact).norm() for n in counts]

    assert order_of(errors, counts) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=["flow", "linear", "zero"])
@pytest.mark.parametrize(("name", "steps", "euler_steps"), [("heun", 13, 80), ("dpm++2m", 25, 100), ("rk4", 6, 250)])
def test_25_evaluations_of_a_higher_order_beat_many_of_euler(name, steps, euler_steps, schedule):
    better = end_of(name, schedule, steps)
    euler, exact = end_of("euler", schedule, euler_steps), end_of("rk4", schedule, 200)

    assert (better - exact).norm() < (euler - exact).norm()


@pytest.mark.parametrize("name", ["ddpm", "euler-stochastic"])
@pytest.mark.parametrize(
    "method", [ddpm(prediction="v", zero_terminal_snr=True), rectified_flow()], ids=["zero", "flow"]
)
def test_stochastic_samplers_reproduce_mean_and_deviation(name, method):
    noise, mean, std = normal(2, 20_000), 0.5, 0.3
    one = {"weights": torch.ones(1), "means": torch.full((1, 1), mean), "stds": torch.full((1, 1), std)}

    def denoise(xt, t, step):
        alpha, sigma = (value[:, None, None] for value in method.schedule(t))
        x0, eps = mixture(xt[..., None], alpha, sigma, k=0, **one)
        return x0[..., 0], eps[..., 0]

    samples = SAMPLERS[name](denoise, method.schedule, noise, uniform(method, 200), generators(2))

    assert samples.mean().item() == pytest.approx(mean, abs=0.01)
    assert samples.std().item() == pytest.approx(std, rel=0.04)
    assert abs(torch.corrcoef(torch.stack([samples.flatten(), noise.flatten()]))[0, 1]) < 0.9  # noise was added


@pytest.mark.parametrize("steps", [25, 50])
def test_ancestral_sampling_of_a_flow_has_about_twice_the_error_of_euler(steps):
    noise, std = normal(2, 20_000, dtype=torch.float64), 0.3
    one = {"weights": torch.ones(1), "means": torch.zeros(1, 1), "stds": torch.full((1, 1), std)}
    flow = rectified_flow()

    def denoise(xt, t, step):
        alpha, sigma = (value[:, None, None] for value in flow.schedule(t))
        x0, eps = mixture(xt[..., None], alpha, sigma, k=0, **one)
        return x0[..., 0], eps[..., 0]

    ends = [SAMPLERS[n](denoise, flow.schedule, noise, uniform(flow, steps), generators(2)) for n in ("ddpm", "euler")]
    ancestral, euler = (1 - end.std().item() / std for end in ends)

    assert 1.7 < ancestral / euler < 2.5
    assert abs(torch.corrcoef(torch.stack([ends[0].flatten(), noise.flatten()]))[0, 1]) < 0.02  # nothing of it is left


def test_a_short_step_of_euler_stochastic_is_euler_maruyama():
    x, t, dt, schedule = normal(1, 1000, dtype=torch.float64), 0.5, 1e-4, LinearSchedule()
    x0, eps = 0.3 * x, (x - (1 - t) * 0.3 * x) / t
    z = torch.randn(1000, generator=generators(1)[0]).double()
    times, states = torch.tensor([t, t - dt, 0.0], dtype=torch.float64), []

    SAMPLERS["euler-stochastic"](
        lambda *args: (x0, eps), schedule, x, times, generators(1), on_step=lambda i, x, x0: states.append(x)
    )

    velocity, score, w = eps - x0, -eps / t, t  # arXiv 2401.08740, equation 4, backwards
    expected = x - velocity * dt + w * score * dt / 2 + (w * dt) ** 0.5 * z
    torch.testing.assert_close(states[0], expected, rtol=0, atol=1e-5)


def test_a_small_error_of_an_epsilon_network_stays_small():
    method = ddpm(prediction="epsilon", beta_schedule="cosine")
    noise, times = normal(500, 2), uniform(method, 50)

    def mistaken(xt, t, step):
        return method.split(xt, smooth(method.schedule)(xt, t)[1] + 0.01, t)

    exact = SAMPLERS["euler"](smooth(method.schedule), method.schedule, noise, times)
    samples = SAMPLERS["euler"](mistaken, method.schedule, noise, times)

    assert ((samples - exact).mean(0).abs() < 0.1).all()


def test_euler_on_a_flow_is_the_textbook_step_along_the_velocity():
    x = normal(4, 3)
    expected = x.clone()
    for i in range(8):
        expected -= some_network(expected, torch.full((4,), 1 - i / 8)) / 8

    torch.testing.assert_close(sampled("euler", rectified_flow(), x, 8), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_samplers_of_flows_take_the_same_steps_as_diffusers(name):
    from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

    theirs = {"euler": FlowMatchEulerDiscreteScheduler, "heun": FlowMatchHeunDiscreteScheduler}[name]()
    theirs.set_timesteps(10)
    x = normal(1, 6)
    for i in theirs.timesteps:
        x = theirs.step(some_network(x, i[None] / 1000), i, x).prev_sample
    times = torch.cat([torch.linspace(1, 0.001, 10, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])

    ours = SAMPLERS[name](estimates_of(rectified_flow()), LinearSchedule(), normal(1, 6), times)

    torch.testing.assert_close(ours, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize(
    ("prediction", "theirs_name"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("sample", "sample")]
)
def test_ddim_takes_the_same_steps_as_diffusers(prediction, theirs_name, eta):
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
    times = uniform(method, 10)
    ours = ddim(eta)(estimates_of(method), method.schedule, normal(1, 6), times, generators(1, first=3))

    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["ddpm", "dpm++2m"])
@pytest.mark.parametrize(
    ("prediction", "theirs_name"), [("epsilon", "epsilon"), ("v", "v_prediction"), ("sample", "sample")]
)
def test_samplers_of_ddpm_take_the_same_steps_as_diffusers(name, prediction, theirs_name):
    from diffusers import DDPMScheduler, DPMSolverMultistepScheduler

    options = {"prediction_type": theirs_name, "timestep_spacing": "trailing", "beta_schedule": "linear"}
    theirs = {
        "ddpm": lambda: DDPMScheduler(clip_sample=False, **options),
        "dpm++2m": lambda: DPMSolverMultistepScheduler(final_sigmas_type="zero", **options),
    }[name]()
    theirs.set_timesteps(20)
    x, generator = normal(1, 6), torch.Generator().manual_seed(3)
    for i in theirs.timesteps:
        x = theirs.step(some_network(x, (i[None] + 1) / 1000), i, x, generator=generator).prev_sample

    method = ddpm(prediction=prediction, beta_schedule="linear", beta_start=1e-4, beta_end=0.02)

    torch.testing.assert_close(sampled(name, method, normal(1, 6), 20, generators(1, first=3)), x, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_does_not_depend_on_the_rest_of_the_batch(name):
    method, noise = ddpm(prediction="v"), normal(5, 3)

    together = sampled(name, method, noise, 10, generators(5))
    alone = sampled(name, method, noise[3:4], 10, generators(1, first=3))

    assert torch.equal(together[3:4], alone)


@pytest.mark.parametrize("name", ["ddpm", "euler-stochastic"])
def test_a_stochastic_sampler_draws_only_from_the_examples_generators(name):
    torch.manual_seed(0)
    before = torch.get_rng_state()

    first, again, other = (sampled(name, ddpm(), normal(2, 3), 5, generators(2, first=f)) for f in (0, 0, 7))

    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, again) and not torch.equal(first, other)
    with pytest.raises(ValueError, match="one generator per example"):
        sampled(name, ddpm(), normal(2, 3), 5)


@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "rk4", "dpm++2m"])
def test_a_deterministic_sampler_depends_only_on_the_initial_noise(name):
    assert torch.equal(
        sampled(name, ddpm(), normal(2, 3), 5), sampled(name, ddpm(), normal(2, 3), 5, generators(2, first=7))
    )


EVALUATIONS = {"N": 7, "2N − 1": 13, "4N − 1": 27}
"""Evaluations in 7 steps, by the formula in the table of docs/sampling.md."""
DOCUMENTED = dict(re.findall(r"^\| `(\S+)` \| \d \| (\S.*?) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("name", SAMPLERS)
def test_evaluations_are_as_documented_and_none_is_at_0(name):
    times = []

    def denoise(xt, t, step):
        assert step.t >= t[0] - 1e-6 and t[0] + 1e-6 >= step.s
        times.append(t[0].item())
        return estimates_of(ddpm())(xt, t)

    SAMPLERS[name](denoise, ddpm().schedule, normal(2, 3), uniform(ddpm(), 7), generators(2))

    assert name in DOCUMENTED, f"docs/sampling.md: add a row for {name!r} to the table of samplers"
    assert DOCUMENTED[name] in EVALUATIONS, f"give the evaluations of 7 steps for {DOCUMENTED[name]!r} in EVALUATIONS"
    assert len(times) == EVALUATIONS[DOCUMENTED[name]]
    assert min(times) > 0


@pytest.mark.parametrize("name", SAMPLERS)
def test_on_step_receives_x_at_the_end_and_x0_at_the_start_of_each_step(name):
    method, noise, reports = ddpm(prediction="v"), normal(2, 3), []

    samples = sampled(name, method, noise, 7, generators(2), on_step=lambda *report: reports.append(report))

    steps, states, estimates = zip(*reports, strict=True)
    starts = [noise, *states[:-1]]
    times = uniform(method, 7)[:-1].float()
    expected = [estimates_of(method)(x, t.expand(2))[0] for x, t in zip(starts, times, strict=True)]
    assert steps == tuple(range(7)) and torch.equal(states[-1], samples)
    torch.testing.assert_close(list(estimates), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_state_is_float32_under_a_bfloat16_network(name):
    method, seen = rectified_flow(), []

    def network(xt, t):
        seen.append((xt.dtype, t.dtype))
        return some_network(xt, t).bfloat16()

    noise = normal(2, 3).bfloat16()
    samples = SAMPLERS[name](estimates_of(method, network), method.schedule, noise, uniform(method, 4), generators(2))

    assert samples.dtype == torch.float32
    assert set(seen) == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler", "euler-stochastic", "heun", "dpm++2m"])
def test_a_single_step_returns_the_estimate_at_pure_noise(name):
    method, noise = rectified_flow(), normal(2, 3)

    samples = sampled(name, method, noise, 1, generators(2))

    torch.testing.assert_close(samples, estimates_of(method)(noise, torch.ones(2))[0])
