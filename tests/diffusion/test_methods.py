import math

import pytest
import torch
from scipy import stats

from signal_diffusion.diffusion.methods import LOSSES, METHODS, PREDICTIONS, ddpm, rectified_flow
from signal_diffusion.errors import UserError

SOLVABLE = [
    *(pytest.param(ddpm(prediction=p), id=f"ddpm-{p}") for p in PREDICTIONS),
    *(
        pytest.param(ddpm(prediction=p, zero_terminal_snr=True), id=f"ddpm-zero-{p}")
        for p in PREDICTIONS
        if p != "epsilon"
    ),
    *(pytest.param(rectified_flow(prediction=p), id=f"flow-{p}") for p in PREDICTIONS),
]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def triples(n, *, dtype=torch.float64):
    x0, noise = torch.randn(2, n, 2, 3, 5, generator=generator(), dtype=dtype)
    return x0, noise, torch.rand(n, generator=generator(1), dtype=dtype)


@pytest.mark.parametrize("method", SOLVABLE)
def test_split_inverts_target_and_add_noise(method):
    x0, noise, t = triples(256)
    xt = method.add_noise(x0, noise, t)

    split = method.split(xt, method.target(x0, noise, t), t)

    torch.testing.assert_close(split, (x0, noise), atol=1e-8, rtol=0)


@pytest.mark.parametrize("method", SOLVABLE)
@pytest.mark.parametrize("at", [0.0, 1.0])
def test_everything_is_finite_at_both_ends(method, at):
    x0, noise, _ = triples(4, dtype=torch.float32)
    t = torch.full((4,), at)
    xt = method.add_noise(x0, noise, t)
    prediction = method.target(x0, noise, t) + 0.01

    x0_found, eps_found = method.split(xt, prediction, t)

    assert x0_found.isfinite().all() and eps_found.isfinite().all()
    assert method.loss(prediction, x0, noise, t).isfinite().all()


def test_targets_are_those_of_the_literature():
    x0, noise, t = triples(8)
    alpha, sigma = (value.view(-1, 1, 1, 1) for value in ddpm().schedule(t))

    targets = {p: ddpm(prediction=p).target(x0, noise, t) for p in PREDICTIONS}

    expected = {"epsilon": noise, "sample": x0, "v": alpha * noise - sigma * x0, "velocity": noise - x0}
    torch.testing.assert_close(targets, expected)


@pytest.mark.parametrize(
    ("prediction", "formula"),
    [
        ("epsilon", lambda snr, gamma: snr.clamp(max=gamma) / snr),
        ("sample", lambda snr, gamma: snr.clamp(max=gamma)),
        ("v", lambda snr, gamma: snr.clamp(max=gamma) / (snr + 1)),
        ("velocity", lambda snr, gamma: snr.clamp(max=gamma) / (snr.sqrt() + 1) ** 2),
    ],
)
def test_min_snr_weights_equal_the_formulas(prediction, formula):
    method = ddpm(prediction=prediction, snr_gamma=5.0)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = method.schedule(t)

    torch.testing.assert_close(method.weight(t), formula((alpha / sigma).square(), 5.0))


@pytest.mark.parametrize("build", METHODS.values())
def test_min_snr_weights_an_error_of_x0_equally_for_every_prediction(build):
    x0, noise, t = triples(64)
    t = t * 0.9 + 0.02  # where the floor of the SNR has no effect
    wrong = x0 + 0.1
    losses = []
    for prediction in ["sample", "v", "velocity"]:
        method = build(prediction=prediction, snr_gamma=5.0)
        alpha, sigma = (value.view(-1, 1, 1, 1) for value in method.schedule(t))
        implied_noise = (method.add_noise(x0, noise, t) - alpha * wrong) / sigma
        losses.append(method.loss(method.target(wrong, implied_noise, t).double(), x0, noise, t))

    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=0)
    torch.testing.assert_close(losses[2], losses[0], rtol=1e-3, atol=0)


@pytest.mark.parametrize("build", METHODS.values())
@pytest.mark.parametrize(("loss", "same"), LOSSES.items())
def test_the_error_in_another_quantity_is_that_of_a_network_which_predicts_it(build, loss, same):
    x0, noise, t = triples(64)
    t = t * 0.8 + 0.1  # where the clamp has no effect
    wrong = x0 + 0.1

    def loss_of(prediction, **options):
        method = build(prediction=prediction, **options)
        alpha, sigma = (value.view(-1, 1, 1, 1) for value in method.schedule(t))
        implied_noise = (method.add_noise(x0, noise, t) - alpha * wrong) / sigma
        return method.loss(method.target(wrong, implied_noise, t).double(), x0, noise, t)

    for prediction in PREDICTIONS:
        torch.testing.assert_close(loss_of(prediction, loss=loss), loss_of(same), rtol=1e-3, atol=0)


def test_the_weight_of_an_error_in_another_quantity_is_bounded():
    predicts_x0 = rectified_flow(prediction="sample", loss="velocity")
    predicts_noise = rectified_flow(prediction="epsilon", loss="x0")
    t = torch.tensor([0.0, 0.04, 0.05, 0.5, 1.0])

    torch.testing.assert_close(predicts_x0.weight(t), 1 / t.clamp(min=0.05).square(), rtol=1e-4, atol=0)
    torch.testing.assert_close(
        predicts_noise.weight(1 - t), (1 - t).square() / t.clamp(min=0.05).square(), rtol=1e-4, atol=1e-9
    )


def test_a_loss_in_an_unknown_quantity_is_refused():
    with pytest.raises(UserError, match="loss 'v' is unknown: expected one of prediction, velocity, x0, epsilon"):
        rectified_flow(loss="v")


@pytest.mark.parametrize(
    "method",
    [
        ddpm(prediction="v", snr_gamma=5.0, zero_terminal_snr=True),
        ddpm(prediction="sample", snr_gamma=5.0, zero_terminal_snr=True),
        rectified_flow(snr_gamma=5.0),
    ],
)
def test_the_step_at_zero_snr_keeps_some_weight(method):
    assert method.weight(torch.ones(1)).item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("method", SOLVABLE)
def test_error_gain_is_how_much_an_error_of_the_prediction_grows_in_x0(method):
    x0, noise, t = triples(64)
    xt = method.add_noise(x0, noise, t)

    found, _ = method.split(xt, method.target(x0, noise, t) + 1, t)

    torch.testing.assert_close((found - x0).abs().mean((1, 2, 3)), method.error_gain(t))


def test_loss_is_the_weighted_mean_square_of_each_example_in_float32():
    method = ddpm(prediction="v", snr_gamma=5.0)
    x0, noise, t = triples(8, dtype=torch.float32)
    errors = torch.arange(8.0)

    prediction = method.target(x0, noise, t) + errors.view(-1, 1, 1, 1)

    torch.testing.assert_close(method.loss(prediction, x0, noise, t), method.weight(t) * errors.square())
    assert method.loss(prediction.bfloat16(), x0, noise, t).dtype == torch.float32


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("method", [ddpm(num_timesteps=24), rectified_flow(time_sampling="uniform")])
def test_one_time_falls_into_each_stratum_of_a_steps_batches(method, count):
    n = 24 // count

    times = [method.sample_time(n, generator(index), index=index, count=count) for index in range(count)]

    strata = (torch.cat(times) * 24 - 1e-4).floor().sort().values
    assert strata.tolist() == list(range(24))


def test_an_examples_time_does_not_depend_on_its_index_in_the_batch():
    method = rectified_flow(time_sampling="uniform")

    first = torch.stack([method.sample_time(16, generator(seed))[0] for seed in range(500)])

    assert stats.kstest(first.numpy(), "uniform").pvalue > 0.01


def test_times_depend_only_on_the_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = ddpm().sample_time(8, generator(7))

    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, ddpm().sample_time(8, generator(7)))
    assert not torch.equal(first, ddpm().sample_time(8, generator(8)))


def test_logit_normal_times_have_a_normal_logit():
    method = rectified_flow(time_sampling="logit_normal", logit_mean=-0.4, logit_std=1.2)

    logits = torch.logit(method.time_at(torch.rand(2000, generator=generator())))

    assert stats.kstest(logits.numpy(), stats.norm(-0.4, 1.2).cdf).pvalue > 0.01


@pytest.mark.parametrize("method", [ddpm(num_timesteps=10), rectified_flow(), rectified_flow(time_sampling="uniform")])
def test_times_stay_within_0_and_1_for_the_extreme_uniforms(method):
    t = method.time_at(torch.tensor([0.0, 1 - 2**-24, 1.0]))

    assert t.isfinite().all() and (t >= 0).all() and (t <= 1).all()


def test_ddpm_trains_uniformly_at_its_timesteps():
    t = ddpm(num_timesteps=4).time_at(torch.arange(8) / 8)

    assert t.tolist() == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: ddpm(prediction="epsilon", zero_terminal_snr=True), "zero_terminal_snr"),
        (lambda: ddpm(prediction="noise"), "expected one of epsilon, sample, v, velocity"),
        (lambda: rectified_flow(time_sampling="normal"), "expected one of uniform, logit_normal"),
        (lambda: rectified_flow(logit_std=0.0), "logit_std"),
        (lambda: ddpm(snr_gamma=-1.0), "snr_gamma"),
        (lambda: ddpm(snr_gamma=math.nan), "snr_gamma"),
    ],
)
def test_an_invalid_method_is_refused(build, expected):
    with pytest.raises(UserError, match=expected):
        build()
