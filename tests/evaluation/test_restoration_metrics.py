"""Metrics of restored values have the values that are known of a Gaussian whose conditional distribution is exact."""

from __future__ import annotations

import math

import numpy as np
import pytest

from signal_diffusion.evaluation.restoration.metrics import METRICS, covered, crps, scores_of

WINDOWS, ELECTRODES, SAMPLES, DRAWS, SFREQ = 20, 4, 256, 16, 64.0
KNOWN, LEFT = 4.0, 3.0
"""µV: standard deviations of what the given values say of the missing ones, and of what they do not."""
SHAPE = (WINDOWS, ELECTRODES, SAMPLES)
MISSING = np.broadcast_to(np.array([True, True, True, False])[:, None], SHAPE)


def exact(spread: float = LEFT, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Truth, and draws from its conditional distribution; of other spread or mean where they are given."""
    random = np.random.default_rng(0)
    mean = KNOWN * random.standard_normal(SHAPE)
    truth = mean + LEFT * random.standard_normal(SHAPE)
    return truth, mean + offset + spread * random.standard_normal((DRAWS, *SHAPE))


def scores(truth: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    return {name: float(each.mean()) for name, each in scores_of(truth, draws, MISSING, SFREQ).items()}


def test_exact_draws_have_the_shares_of_variance_that_theory_says() -> None:
    found = scores(*exact())

    left = LEFT**2 * (1 + 1 / DRAWS)  # the mean of 16 draws has an error of its own
    total = KNOWN**2 + LEFT**2
    assert found["nmse"] == pytest.approx(left / total, rel=0.03)
    assert found["correlation"] == pytest.approx(KNOWN**2 / math.sqrt(total * (KNOWN**2 + LEFT**2 / DRAWS)), rel=0.02)


def test_exact_draws_cover_80_percent_and_have_the_crps_of_a_gaussian() -> None:
    found = scores(*exact())

    assert found["coverage"] == pytest.approx(0.8, abs=0.01)
    assert found["crps"] == pytest.approx(LEFT / math.sqrt(math.pi), rel=0.02)  # E|z − z'| / 2 = σ/√π


@pytest.mark.parametrize("count", [9, 10, 16, 19, 50])
def test_exact_draws_cover_80_percent_whatever_their_number(count: int) -> None:
    random = np.random.default_rng(count)

    found = covered(random.standard_normal(100_000), random.standard_normal((count, 100_000)))

    assert found.mean() == pytest.approx(0.8, abs=0.005)


@pytest.mark.parametrize(("spread", "low", "high"), [(LEFT / 2, 0.4, 0.55), (2 * LEFT, 0.95, 1.0)])
def test_coverage_shows_draws_that_are_too_sure_or_not_sure_enough(spread: float, low: float, high: float) -> None:
    assert low < scores(*exact(spread))["coverage"] < high


def test_crps_is_best_for_the_true_distribution() -> None:
    found = [scores(*exact(**wrong))["crps"] for wrong in ({}, {"spread": 1.5}, {"spread": 6.0}, {"offset": 3.0})]

    assert found[0] == min(found)


def test_crps_is_that_of_its_definition_and_unbiased_for_two_draws() -> None:
    random = np.random.default_rng(1)
    truth, draws = random.standard_normal(200_000), random.standard_normal((2, 200_000))

    found = crps(truth, draws)

    first, second = draws
    expected = (np.abs(first - truth) + np.abs(second - truth)) / 2 - np.abs(first - second) / 2
    np.testing.assert_allclose(found, expected)
    assert found.mean() == pytest.approx(1 / math.sqrt(math.pi), abs=0.005)


def test_one_estimate_has_the_mean_absolute_error_and_no_coverage() -> None:
    truth, draws = exact()

    found = scores(truth, draws[:1])

    assert found["crps"] == pytest.approx(np.abs(truth - draws[0])[MISSING].mean())
    assert math.isnan(found["coverage"])


def test_the_truth_itself_is_without_error() -> None:
    truth, _ = exact()

    found = scores(truth, truth[None])

    assert found["nmse"] == found["band_error"] == found["crps"] == 0
    assert found["correlation"] == pytest.approx(1)


def test_half_the_amplitude_is_6_decibels_of_band_power() -> None:
    truth, _ = exact()

    found = scores(truth, truth[None] / 2)

    assert found["band_error"] == pytest.approx(20 * math.log10(2))
    assert found["nmse"] == pytest.approx(1 / 4)


def test_given_values_do_not_count() -> None:
    truth, draws = exact()
    wrong = np.where(MISSING, draws, 1e6)

    assert scores(truth, wrong) == scores(truth, draws)


def test_a_quarter_of_a_second_has_no_band_that_is_too_slow_for_it() -> None:
    truth, draws = exact()
    gap = np.broadcast_to((np.arange(SAMPLES) >= 100) & (np.arange(SAMPLES) < 116), SHAPE)

    found = scores_of(truth, draws, gap, SFREQ)

    assert all(np.isfinite(found[name]).all() for name in METRICS)
