import pytest
import torch

from signal_diffusion.diffusion.schedules import BETA_SCHEDULES, BetaSchedule, LinearSchedule
from signal_diffusion.errors import UserError

DIFFUSERS_NAMES = {
    "linear": "linear",
    "cosine": "squaredcos_cap_v2",
    "quadratic": "scaled_linear",
    "sigmoid": "sigmoid",
}


def steps(schedule):
    return torch.arange(1, schedule.num_timesteps + 1, dtype=torch.float64) / schedule.num_timesteps


@pytest.mark.parametrize("name", BETA_SCHEDULES)
@pytest.mark.parametrize("zero_terminal_snr", [False, True])
def test_alpha_and_sigma_equal_those_of_diffusers(name, zero_terminal_snr):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule=DIFFUSERS_NAMES[name],
        beta_start=1e-4,
        beta_end=0.02,
        rescale_betas_zero_snr=zero_terminal_snr,
    )
    ours = BetaSchedule(name=name, zero_terminal_snr=zero_terminal_snr)

    alpha, sigma = ours(steps(ours))

    torch.testing.assert_close(alpha.square().float(), theirs.alphas_cumprod, atol=1e-5, rtol=0)
    torch.testing.assert_close(sigma.square().float(), 1 - theirs.alphas_cumprod, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", BETA_SCHEDULES)
def test_betas_equal_those_of_diffusers(name):
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_schedule=DIFFUSERS_NAMES[name], beta_start=1e-4, beta_end=0.02).betas

    torch.testing.assert_close(BetaSchedule(name=name).betas().float(), theirs, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("schedule", [LinearSchedule(), *(BetaSchedule(name=name) for name in BETA_SCHEDULES)])
def test_alpha_decreases_from_1_and_sigma_grows_from_0(schedule):
    alpha, sigma = schedule(torch.linspace(0, 1, 5001))

    assert alpha[0] == 1 and sigma[0] == 0
    assert (alpha.diff() < 0).all() and (sigma.diff() >= 0).all()
    assert alpha[-1].item() == pytest.approx(schedule.terminal_alpha)


def test_alpha_squared_and_sigma_squared_sum_to_1_between_steps_too():
    alpha, sigma = BetaSchedule(num_timesteps=10)(torch.linspace(0, 1, 997, dtype=torch.float64))

    torch.testing.assert_close(alpha.square() + sigma.square(), torch.ones_like(alpha))


@pytest.mark.parametrize("schedule", [LinearSchedule(), *(BetaSchedule(name=name) for name in BETA_SCHEDULES)])
def test_time_of_inverts_the_schedule(schedule):
    t = torch.linspace(0, 1, 4999, dtype=torch.float64)
    alpha, sigma = schedule(t)

    torch.testing.assert_close(schedule.time_of(torch.atan2(sigma, alpha)), t, rtol=0, atol=1e-9)


def test_an_angle_beyond_the_last_step_is_at_time_1():
    assert BetaSchedule(name="linear").time_of(torch.tensor([1.57, 4.0])).tolist() == [1.0, 1.0]


def test_float32_is_accurate_where_alpha_or_sigma_is_small():
    schedule = BetaSchedule(name="cosine")
    t = torch.tensor([1 / 1000, 999 / 1000, 1.0])

    for ours, exact in zip(schedule(t), schedule(t.double()), strict=True):
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=0)


def test_zero_terminal_snr_makes_the_last_alpha_0_and_keeps_the_first():
    plain, rescaled = (BetaSchedule(name="linear", zero_terminal_snr=zero) for zero in (False, True))

    assert rescaled.terminal_alpha == 0 and rescaled(torch.ones(1))[0].item() == 0
    torch.testing.assert_close(rescaled.alphas()[0], plain.alphas()[0])


def test_terminal_alpha_reveals_a_schedule_that_does_not_reach_noise():
    assert BetaSchedule(name="linear", num_timesteps=200).terminal_alpha == pytest.approx(0.36, abs=0.01)


@pytest.mark.parametrize("wrong", [{"name": "cosin"}, {"num_timesteps": 1}, {"beta_start": 0.0}, {"beta_end": 1.0}])
def test_an_invalid_schedule_is_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong)).replace("name", "beta_schedule")):
        BetaSchedule(**wrong)
