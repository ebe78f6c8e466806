import pytest
import torch

from signal_diffusion.config.schema import Sampling
from signal_diffusion.diffusion.generation import sampler_of, times_of
from signal_diffusion.diffusion.methods import PREDICTIONS, ddpm, rectified_flow
from signal_diffusion.diffusion.samplers import SAMPLERS
from signal_diffusion.diffusion.time_grids import TIME_GRIDS, karras, shifted, uniform
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment

METHODS = [
    *(pytest.param(ddpm(prediction=p), id=f"ddpm-{p}") for p in PREDICTIONS),
    pytest.param(ddpm(num_timesteps=50, beta_schedule="linear", beta_end=0.3), id="ddpm-50"),
    pytest.param(ddpm(prediction="v", zero_terminal_snr=True), id="zero-v"),
    *(pytest.param(rectified_flow(prediction=p), id=f"flow-{p}") for p in PREDICTIONS),
]


def ratios(method, times):
    alpha, sigma = method.schedule(times)
    return sigma / alpha


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", TIME_GRIDS.values(), ids=TIME_GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_every_grid_decreases_strictly_from_the_methods_start_to_0(grid, method, steps):
    times = grid(method, steps)

    assert times.shape == (steps + 1,) and times.dtype == torch.float64
    assert times[0] == uniform(method, 1)[0] and times[-1] == 0
    assert (times.diff() < 0).all()


def test_uniform_times_of_ddpm_are_training_timesteps():
    times = uniform(ddpm(num_timesteps=50, prediction="v"), 7)

    assert times[0] == 1
    torch.testing.assert_close(times * 50, (times * 50).round())


def test_as_many_uniform_steps_as_timesteps_decrease_strictly():
    assert (uniform(ddpm(prediction="epsilon"), 1000).diff() < 0).all()


def test_an_epsilon_network_starts_where_its_error_gain_is_bounded():
    assert uniform(ddpm(prediction="epsilon", beta_schedule="linear"), 10)[0] == 1
    start = uniform(ddpm(prediction="epsilon", beta_schedule="cosine"), 10)[:1]
    assert 0.99 < start.item() < 1
    assert ddpm().schedule(start)[0].item() > 1 / 201


def test_karras_times_equal_those_of_diffusers_after_the_start_from_pure_noise():
    from diffusers import EDMEulerScheduler

    theirs = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    theirs.set_timesteps(18)

    times = karras(rectified_flow(), 18)

    assert times[0] == 1
    torch.testing.assert_close(ratios(rectified_flow(), times[1:]).float(), theirs.sigmas[1:], rtol=1e-4, atol=0)


def test_karras_times_of_ddpm_end_at_its_first_timestep():
    method = ddpm(prediction="epsilon", beta_schedule="linear")

    times = karras(method, 20)

    assert times[0] == 1 and times[-2].item() == pytest.approx(1 / 1000)
    seventh = ratios(method, times[1:-1]) ** (1 / 7)
    torch.testing.assert_close(seventh.diff(), seventh.diff().mean().expand(18))


def test_shifted_times_equal_those_of_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(sigmas=torch.linspace(1, 0, 11)[:-1].tolist())

    torch.testing.assert_close(shifted(rectified_flow(), 10).float(), theirs.sigmas)


def test_sampling_options_reach_grid_and_sampler():
    sampling = Sampling(sampler="ddim", eta=0.5, steps=10, time_grid="shifted", time_shift=2.0)

    assert torch.equal(times_of(rectified_flow(), sampling), shifted(rectified_flow(), 10, shift=2.0))
    assert sampler_of(sampling).stochastic and not sampler_of(Sampling(sampler="ddim")).stochastic
    assert sampler_of(Sampling(sampler="heun")) is SAMPLERS["heun"]
    assert torch.equal(times_of(ddpm(), Sampling(steps=10)), uniform(ddpm(), 10))


def test_a_shifted_grid_of_ddpm_is_refused_when_the_file_is_read(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text("[data]\nsource = 'synthetic'\n[generation.sampling]\ntime_grid = 'shifted'")

    with pytest.raises(UserError, match="'shifted' needs model"):
        load_experiment(path)


def test_a_shift_of_1_changes_nothing():
    torch.testing.assert_close(shifted(rectified_flow(), 10, shift=1.0), uniform(rectified_flow(), 10))


@pytest.mark.parametrize("grid", TIME_GRIDS.values(), ids=TIME_GRIDS)
def test_zero_steps_are_refused(grid):
    with pytest.raises(UserError, match="0 sampling steps: expected 1 or more"):
        grid(rectified_flow(), 0)


def test_more_uniform_steps_than_timesteps_are_refused():
    with pytest.raises(UserError, match="101 sampling steps: expected 1 to 100"):
        uniform(ddpm(num_timesteps=100), 101)
