"""Averages by power functions of time, and how any of them follows from snapshots of two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from signal_diffusion.training.post_hoc_ema import SIGMA_RELS, PowerAverages
from signal_diffusion.training.power_profiles import MAX_SIGMA_REL, exponent_of, fit


def drifting(steps: int) -> torch.Tensor:
    """A weight at each step that drifts and shakes, as in training: (steps, 500)."""
    generator = torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 500, generator=generator) * 0.1
    shakes = torch.randn(steps, 500, generator=generator).cumsum(0) * 3e-3
    return torch.lerp(start, end, torch.linspace(0, 1, steps)[:, None]) + shakes


@pytest.mark.parametrize("sigma_rel", [0.01, 0.05, 0.1, 0.15, 0.25, MAX_SIGMA_REL])
def test_a_profile_has_the_width_of_its_sigma_rel(sigma_rel: float) -> None:
    times = (np.arange(100_000) + 0.5) / 100_000
    weights = times ** exponent_of(sigma_rel)
    mean = (weights * times).sum() / weights.sum()
    width = np.sqrt((weights * (times - mean) ** 2).sum() / weights.sum())
    assert width == pytest.approx(sigma_rel, rel=1e-4)


def test_a_tracked_average_weights_the_steps_by_its_profile() -> None:
    model, path = nn.Linear(500, 1, bias=False), drifting(300)
    averages = PowerAverages(model, (0.05, 0.2))
    for weights in path:
        with torch.no_grad():
            model.weight.copy_(weights)
        averages.update()
    for sigma_rel in (0.05, 0.2):
        edges = np.arange(301) ** (exponent_of(sigma_rel) + 1)  # the integral of the profile
        expected = torch.from_numpy(np.diff(edges) / edges[-1]) @ path.double()
        found = averages.state_dict()[f"{sigma_rel:g}/weight"][0].double()
        assert torch.linalg.vector_norm(found - expected) < 1e-6 * torch.linalg.vector_norm(expected)


@pytest.mark.parametrize(("sigma_rel", "most"), [(0.03, 1e-3), (0.07, 1e-4), (0.15, 1e-4), (0.2, 1e-3)])
def test_a_combination_of_20_snapshots_is_close_to_the_average_of_another_sigma_rel(
    sigma_rel: float, most: float
) -> None:
    path = drifting(400).double()

    def average(end: int, exponent: float) -> torch.Tensor:
        edges = np.arange(end + 1) ** (exponent + 1)
        return torch.from_numpy(np.diff(edges) / edges[-1]) @ path[:end]

    ends = np.repeat(np.arange(20, 401, 20), 2).astype(float)
    exponents = np.tile([exponent_of(each) for each in SIGMA_RELS], 20)
    coefficients, error = fit(ends, exponents, end=400, exponent=exponent_of(sigma_rel))

    snapshots = torch.stack([average(int(end), exponent) for end, exponent in zip(ends, exponents, strict=True)])
    found, expected = torch.from_numpy(coefficients) @ snapshots, average(400, exponent_of(sigma_rel))
    assert coefficients.sum() == pytest.approx(1, abs=1e-9)
    assert 1e-4 < error < 0.05
    assert torch.linalg.vector_norm(found - expected) < most * torch.linalg.vector_norm(expected)


def test_a_tracked_average_is_its_own_combination() -> None:
    ends, exponents = np.array([50.0, 100.0, 100.0]), np.array([7.0, 7.0, 17.0])
    coefficients, error = fit(ends, exponents, end=100, exponent=7.0)
    assert coefficients == pytest.approx([0, 1, 0], abs=1e-7)
    assert error < 1e-6


def test_a_fit_to_a_thousand_averages_of_a_long_run_is_stable() -> None:
    ends = np.repeat(np.linspace(2_000, 1_000_000, 250), 2)
    exponents = np.tile([exponent_of(each) for each in SIGMA_RELS], 250)
    coefficients, error = fit(ends, exponents, end=1e6, exponent=exponent_of(0.15))
    assert error < 1e-3 and np.abs(coefficients).sum() < 20


def test_restarted_averages_forget_what_they_were() -> None:
    model = nn.Linear(2, 2)
    averages = PowerAverages(model)
    averages.update()
    averages.restart()
    with torch.no_grad():
        model.weight.fill_(3.0)
    averages.update()
    assert averages.num_updates == 1 and all((averages.state_dict()[f"{s:g}/weight"] == 3).all() for s in SIGMA_RELS)


def test_averages_of_another_model_are_refused() -> None:
    averages = PowerAverages(nn.Linear(2, 2))
    for wrong in ({"0.05/weight": torch.zeros(2, 2)}, averages.state_dict() | {"0.2/weight": torch.zeros(2, 2)}):
        with pytest.raises(KeyError):
            averages.load_state_dict(wrong, 1)


def test_only_trained_weights_are_averaged() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)  # as under LoRA
    assert {name.partition("/")[2] for name in PowerAverages(model).state_dict()} == {"1.weight", "1.bias"}
