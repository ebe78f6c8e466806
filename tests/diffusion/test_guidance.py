"""Guidance of a mixture of Gaussians against the guided ODE in float64, and of a plain network against formulas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from signal_diffusion.config.schema import Sampling
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.diffusion.guidance import guided, rectified_cfg_plus_plus, unguided
from signal_diffusion.diffusion.methods import PREDICTIONS, Method, ddpm, rectified_flow
from signal_diffusion.diffusion.samplers import Denoise, Step
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, generator_for, noise_for
from tests.diffusion.oracles import mixture

GuidanceType = Literal["classifier-free", "cfg++", "autoguidance"]

# --- a mixture of two classes with known posterior means ---

MEANS = np.array([[1.0, -0.5, 0.3, -0.8, 0.6, 0.0], [-0.6, 0.4, 0.5, 1.0, -0.7, 0.2]])
STDS = np.array([0.5, 0.8])
LABELS = torch.tensor([0, 1] * 4)


def posterior(x: np.ndarray, alpha: float, sigma: float, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """E[x0 | x_t] and E[ε | x_t], (B, D) each, for the label's class N(mean, std²), or for −1 both in equal shares."""
    total = alpha**2 * STDS**2 + sigma**2  # (K,)
    surprise = (x[:, None] - alpha * MEANS) / total[:, None]  # (B, K, D)
    logs = -0.5 * (total[:, None] * surprise**2 + np.log(total)[:, None]).sum(2)
    possible = (labels[:, None] < 0) | (labels[:, None] == np.arange(2))
    weights = np.where(possible, np.exp(logs - np.where(possible, logs, -np.inf).max(1, keepdims=True)), 0.0)
    weights = (weights / weights.sum(1, keepdims=True))[..., None]
    x0 = MEANS + alpha * STDS[:, None] ** 2 * surprise
    return (weights * x0).sum(1), (weights * sigma * surprise).sum(1)


@dataclass
class Mixture:
    """The perfect network for the mixture, with a method's prediction."""

    method: Method

    def __call__(self, xt: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        alpha, sigma = (value[:1, None] for value in self.method.schedule(t.double()))
        labels = cond.attributes["label"]
        x0, eps = mixture(
            xt.double(),
            alpha,
            sigma,
            None if (labels < 0).all() else labels,
            weights=torch.tensor([0.5, 0.5]),
            means=torch.from_numpy(MEANS),
            stds=torch.from_numpy(STDS)[:, None].expand(2, MEANS.shape[1]),
        )
        return self.method.target(x0, eps, t).float()


@dataclass(frozen=True)
class Curve:
    """A method, and the curve of its (α, σ), parameterised by u ∈ [0, 1]."""

    method: Method
    at: Callable[[float], tuple[float, float, float, float]]
    """u → (α, σ, dα/du, dσ/du)."""
    parameter: Callable[[float, float], float]
    """(α, σ) → u."""


QUARTER = np.pi / 2
FLOW = Curve(rectified_flow(), lambda u: (1 - u, u, -1.0, 1.0), lambda alpha, sigma: sigma)
CIRCLE = Curve(
    ddpm(prediction="v"),
    lambda u: (
        np.cos(QUARTER * u),
        np.sin(QUARTER * u),
        -QUARTER * np.sin(QUARTER * u),
        QUARTER * np.cos(QUARTER * u),
    ),
    lambda alpha, sigma: float(np.arctan2(sigma, alpha)) / QUARTER,
)


def parameter_at(path: Curve, t: float) -> float:
    return path.parameter(*(value.item() for value in path.method.schedule(torch.tensor(t, dtype=torch.float64))))


def guided_solution(
    path: Curve, noise: np.ndarray, scale: float, interval: tuple[float, float], rescale: float
) -> np.ndarray:
    """The solution of dx = x0·dα + ε·dσ from noise, with guided x0 and ε, in float64 by DOP853."""
    labels, nulls = LABELS.numpy(), -np.ones(len(LABELS), dtype=int)

    def change(u: float, flat: np.ndarray, inside: bool) -> np.ndarray:
        x = flat.reshape(noise.shape)
        alpha, sigma, d_alpha, d_sigma = path.at(u)
        x0, eps = x0_c, _ = posterior(x, alpha, sigma, labels)
        if inside:
            x0_u, eps_u = posterior(x, alpha, sigma, nulls)
            x0, eps = x0_u + scale * (x0_c - x0_u), eps_u + scale * (eps - eps_u)
            ratio = x0_c.std(1, keepdims=True) / x0.std(1, keepdims=True)
            scaled = rescale * x0 * ratio + (1 - rescale) * x0
            x0, eps = scaled, eps + alpha / sigma * (x0 - scaled)
        return (x0 * d_alpha + eps * d_sigma).ravel()

    low, high = interval
    almost_data = 1e-6  # α/σ has no value at 0, and from here no sample moves by more than a few times this
    ends = [parameter_at(path, 1.0), parameter_at(path, high), max(parameter_at(path, low), almost_data), almost_data]
    x = noise.ravel()
    for start, end, inside in zip(ends, ends[1:], (False, True, False), strict=False):
        if start > end:
            x = solve_ivp(change, (start, end), x, "DOP853", rtol=1e-6, atol=1e-6, args=(inside,)).y[:, -1]
    return x.reshape(noise.shape)


def sampled(path: Curve, sampling: Sampling) -> np.ndarray:
    shape = MEANS.shape[1:]
    cond = Conditioning({"label": LABELS})
    return (
        SampleGenerator(method=path.method, sampling=sampling, shape=shape)
        .generate(Mixture(path.method), cond, range(len(LABELS)))
        .double()
        .numpy()
    )


PARTLY = (0.2, 0.8)
CASES = [(path, "classifier-free", 1.0, (0.0, 1.0), 0.0) for path in (FLOW, CIRCLE)] + [
    (path, guidance_type, scale, interval, rescale)
    for path, guidance_type in ((FLOW, "classifier-free"), (CIRCLE, "classifier-free"), (FLOW, "cfg++"))
    for scale in (2.5, 7.5)
    for interval in ((0.0, 1.0), PARTLY)
    for rescale in ((0.0,) if guidance_type == "cfg++" else (0.0, 0.7))
]


@pytest.mark.parametrize(("path", "guidance_type", "scale", "interval", "rescale"), CASES)
def test_samples_converge_to_the_guided_ode_solved_in_float64(
    path: Curve, guidance_type: GuidanceType, scale: float, interval: tuple[float, float], rescale: float
) -> None:
    """Euler's error is C·h + O(h²): 2·x(h/2) − x(h) is of second order, and changes by three times its error.

    On the cosine schedule, where σ starts like √t, it changes by twice its error. So the tolerance is the change on
    halving the steps: 0.0007 to 0.0024, for data with standard deviations of 0.5 and 0.8.
    """
    sampling = Sampling(
        guidance_type=guidance_type, guidance_scale=scale, guidance_interval=interval, guidance_rescale=rescale
    )
    coarse, fine, finest = (sampled(path, replace(sampling, steps=steps)) for steps in (25, 50, 100))
    earlier, limit = 2 * fine - coarse, 2 * finest - fine
    generators = [generator_for(Purpose.SAMPLE, 0, i) for i in range(len(LABELS))]
    noise = noise_for(generators, MEANS.shape[1:]).double().numpy()

    expected = guided_solution(path, noise, scale, interval, rescale)

    change = np.abs(limit - earlier).max()
    assert np.abs(limit - expected).max() < change < 0.0025


@pytest.mark.parametrize(
    ("path", "sampler", "steps", "error"),
    [(FLOW, "heun", 40, 2e-3), (CIRCLE, "heun", 40, 6e-3), (FLOW, "rk4", 10, 1e-4), (CIRCLE, "rk4", 20, 1e-4)],
)
@pytest.mark.parametrize("rescale", [0.0, 0.7])
def test_an_interval_preserves_the_order_of_samplers(
    path: Curve, sampler: str, steps: int, error: float, rescale: float
) -> None:
    """A whole step is guided or not. If each evaluation decided for itself, the errors would be larger."""
    generators = [generator_for(Purpose.SAMPLE, 0, i) for i in range(len(LABELS))]
    noise = noise_for(generators, MEANS.shape[1:]).double().numpy()
    sampling = Sampling(
        sampler=sampler, steps=steps, guidance_scale=2.5, guidance_interval=PARTLY, guidance_rescale=rescale
    )

    difference = sampled(path, sampling) - guided_solution(path, noise, 2.5, PARTLY, rescale)

    assert np.abs(difference).max() < error


# --- a plain network with a record of its passes ---

COND = Conditioning({"label": torch.tensor([0, 1, 1])})
X = torch.linspace(-1, 1, 12).view(3, 4)
T = torch.full((3,), 0.5)
STEP = Step(
    FLOW.method.schedule,
    0.5,
    0.1,
    *(0.5, 0.5),
    *(0.9, 0.1),
    draw=lambda: torch.empty(0),
    previous=None,
)
"""From t = 0.5 to 0.1."""


@dataclass
class Plain:
    """Predicts gain·(label + 2)·(x + t), so gain·(x + t) for the null, and records the conditions of each pass."""

    gain: float = 1.0
    passes: list[Conditioning] = field(default_factory=list)

    def __call__(self, xt: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        self.passes.append(cond)
        labels = cond.attributes.get("label", torch.zeros(len(xt)))
        return self.gain * (labels + 2)[:, None] * (xt + t[:, None])


def drawn(network: Plain, *, guide: Plain | None = None, cond: Conditioning = COND, **options: Any) -> Tensor:
    """Three samples of the flow in 10 steps."""
    sampling = Sampling(steps=10, **options)
    generator = SampleGenerator(method=FLOW.method, sampling=sampling, shape=(4,))
    return generator.generate(network, cond, range(3), guide=guide)


def pair_of(velocity: Tensor, xt: Tensor = X, t: Tensor = T) -> tuple[Tensor, Tensor]:
    """x0 and ε of a flow, from its velocity."""
    return xt - t[:, None] * velocity, xt + (1 - t[:, None]) * velocity


def estimates(gain: float = 1.0) -> tuple[Denoise, Denoise]:
    """c and u of the plain network."""
    nulls = COND.drop(torch.ones(3, dtype=torch.bool))
    return unguided(Plain(gain), FLOW.method, COND), unguided(Plain(gain), FLOW.method, nulls)


@pytest.mark.parametrize("guidance_type", ["classifier-free", "cfg++", "autoguidance"])
def test_scale_1_is_exactly_no_guidance_in_one_pass(guidance_type: GuidanceType) -> None:
    plain, network = Plain(), Plain()

    samples = drawn(network, guidance_type=guidance_type, guidance_interval=PARTLY, guidance_rescale=0.5)

    assert torch.equal(samples, drawn(plain))
    assert len(network.passes) == len(plain.passes) == 10
    assert all(torch.equal(cond.attributes["label"], COND.attributes["label"]) for cond in network.passes)


def test_scale_0_is_the_model_without_conditions() -> None:
    nulls = Conditioning({"label": torch.full((3,), -1)})

    assert torch.equal(drawn(Plain(), guidance_scale=0.0), drawn(Plain(), cond=nulls))


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_scale_extrapolates_x0_and_noise_whatever_the_prediction(prediction: str) -> None:
    """So the kind of prediction makes no difference."""
    c, u = (torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))

    x0, eps = guided(expressed_as(c, prediction), expressed_as(u, prediction), FLOW.method.schedule, 2.5)(X, T, STEP)

    torch.testing.assert_close(x0, pair_of(u[0] + 2.5 * (c[0] - u[0]))[0])
    torch.testing.assert_close(eps, pair_of(u[0] + 2.5 * (c[0] - u[0]))[1])


def expressed_as(velocity: Tensor, prediction: str) -> Denoise:
    """The estimates of a network with this velocity and another kind of prediction."""
    method = rectified_flow(prediction=prediction)
    return lambda xt, t, step: method.split(xt, method.target(*pair_of(velocity[0], xt, t), t), t)


@pytest.mark.parametrize(
    ("interval", "guided_steps"),
    [((0.0, 1.0), 10), ((0.2, 0.6), 4), ((0.95, 1.0), 1), ((0.0, 0.1), 1), ((0.3, 0.31), 0)],
)
def test_a_second_pass_is_taken_only_inside_the_interval(interval: tuple[float, float], guided_steps: int) -> None:
    network = Plain()

    drawn(network, guidance_scale=2.0, guidance_interval=interval)

    assert len(network.passes) == 10 + guided_steps


def test_outside_the_interval_the_estimates_are_exactly_the_conditional_ones() -> None:
    c, u = estimates()

    denoise = guided(c, u, FLOW.method.schedule, 2.0, interval=(0.5, 1.0), rescale=0.7)

    assert all(torch.equal(found, expected) for found, expected in zip(denoise(X, T, STEP), c(X, T, STEP), strict=True))


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("method", [FLOW.method, CIRCLE.method], ids=["flow", "cosine"])
def test_rescaling_moves_x0_towards_the_conditional_deviation_and_keeps_xt(method: Method, share: float) -> None:
    c, u = (unguided(Plain(), method, cond) for cond in (COND, COND.drop(torch.ones(3, dtype=torch.bool))))
    plain, _ = guided(c, u, method.schedule, 4.0)(X, T, STEP)

    x0, eps = guided(c, u, method.schedule, 4.0, rescale=share)(X, T, STEP)

    ratio = c(X, T, STEP)[0].std(1, keepdim=True) / plain.std(1, keepdim=True)
    alpha, sigma = (value[:, None] for value in method.schedule(T))
    torch.testing.assert_close(x0, share * ratio * plain + (1 - share) * plain)
    torch.testing.assert_close(eps, (X - alpha * x0) / sigma)
    assert (ratio - 1).abs().min() > 0.1


def test_rescaling_does_not_change_a_constant_x0() -> None:
    flat = (torch.full((3, 4), 0.5), torch.zeros(3, 4))

    x0, eps = guided(lambda *args: flat, lambda *args: flat, FLOW.method.schedule, 4.0, rescale=0.7)(X, T, STEP)

    assert torch.equal(x0, flat[0]) and torch.equal(eps, flat[1])


def test_rescaling_is_finite_at_t_0() -> None:
    x0, eps = guided(*estimates(), FLOW.method.schedule, 4.0, rescale=0.7)(X, torch.zeros(3), STEP)

    assert x0.isfinite().all() and eps.isfinite().all()


def test_rescaling_of_an_example_does_not_depend_on_the_others() -> None:
    def denoise(rows: slice) -> tuple[Tensor, Tensor]:
        cond = COND[rows]
        c, u = (unguided(Plain(), FLOW.method, each) for each in (cond, cond.drop(torch.ones(len(cond)).bool())))
        return guided(c, u, FLOW.method.schedule, 4.0, rescale=0.7)(X[rows], T[rows], STEP)

    batch, single = denoise(slice(3)), denoise(slice(1, 2))

    assert all(torch.equal(several[1:2], one) for several, one in zip(batch, single, strict=True))


# --- autoguidance ---


def test_autoguidance_by_the_same_model_is_the_model() -> None:
    samples = drawn(Plain(), guide=Plain(), guidance_type="autoguidance", guidance_scale=7.5)

    assert torch.equal(samples, drawn(Plain()))


def test_autoguidance_evaluates_both_networks_under_the_same_conditions() -> None:
    network, weaker = Plain(), Plain(gain=0.5)

    samples = drawn(network, guide=weaker, guidance_type="autoguidance", guidance_scale=2.0)

    assert len(network.passes) == len(weaker.passes) == 10
    assert all(torch.equal(cond.attributes["label"], COND.attributes["label"]) for cond in weaker.passes)
    # 0.5 + 2·(1 − 0.5) of the gain
    torch.testing.assert_close(samples, drawn(Plain(gain=1.5)))


def test_autoguidance_needs_no_conditions() -> None:
    network, weaker = Plain(), Plain(gain=0.5)

    samples = drawn(network, guide=weaker, cond=Conditioning(), guidance_type="autoguidance", guidance_scale=2.0)

    torch.testing.assert_close(samples, drawn(Plain(gain=1.5), cond=Conditioning()))


def test_autoguidance_without_a_guide_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="guidance_checkpoint: autoguidance needs a second network"):
        drawn(Plain(), guidance_type="autoguidance", guidance_scale=2.0)


# --- Rectified-CFG++ ---


def test_a_step_of_rectified_cfg_plus_plus_equals_its_formula() -> None:
    """v_c(x_t) + (w − 1)·(v_c(x_m) − v_u(x_m)), x_m half a conditional step ahead, here from 0.5 by −0.2."""
    c, u = estimates()

    x0, eps = rectified_cfg_plus_plus(c, u, FLOW.method.schedule, 3.0)(X, T, STEP)

    gain = COND.attributes["label"][:, None] + 2
    v_c = gain * (X + 0.5)
    x_m = X - 0.2 * v_c
    expected = pair_of(v_c + 2.0 * (gain * (x_m + 0.3) - (x_m + 0.3)))
    torch.testing.assert_close(x0, expected[0])
    torch.testing.assert_close(eps, expected[1])


def test_rectified_cfg_plus_plus_takes_three_passes_inside_the_interval_and_one_outside() -> None:
    network = Plain()

    drawn(network, guidance_type="cfg++", guidance_scale=2.0, guidance_interval=(0.2, 0.6))

    assert len(network.passes) == 10 + 2 * 4


# --- several attributes ---


def test_guidance_uses_all_requested_attributes_and_keeps_the_rest_null_in_both_passes() -> None:
    requested = {"gender": torch.tensor([1, 0, 1]), "age": torch.full((3,), 60.0), "health": torch.full((3,), -1)}
    network = Plain()

    drawn(network, cond=Conditioning(requested), guidance_scale=2.0, guidance_interval=(0.9, 1.0))

    conditional, unconditional = (cond.attributes for cond in network.passes[:2])
    assert all(torch.equal(conditional[name], requested[name]) for name in requested)
    assert (unconditional["gender"] == -1).all() and unconditional["age"].isnan().all()
    assert (unconditional["health"] == -1).all()
