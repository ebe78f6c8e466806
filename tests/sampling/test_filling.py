"""What is filled in continues what is there: held to a process of which every window can be sampled exactly."""

from __future__ import annotations

import numpy as np
import pytest

from signal_diffusion.sampling.filling import fill, windows_to_fill
from tests.diffusion import oracles

WINDOW, LONG = 32, 400
COVARIANCE = oracles.autoregression((1.2, -0.6), LONG).numpy()
COVARIANCE /= COVARIANCE[0, 0]


def exact_window(values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
    """Sample the missing values of an AR(2) process exactly, given the others; electrodes are independent."""
    draws, electrodes, window = values.shape
    generator, filled = np.random.default_rng([number, start]), values.astype(float)
    covariance = COVARIANCE[:window, :window]
    for row in range(electrodes):
        given, rest = known[row], ~known[row]
        gain = covariance[rest][:, given] @ np.linalg.pinv(covariance[given][:, given])
        left = covariance[rest][:, rest] - gain @ covariance[given][:, rest]
        root = np.linalg.cholesky(left + 1e-10 * np.eye(len(left)))
        filled[:, row, rest] = values[:, row, given] @ gain.T + generator.standard_normal((draws, rest.sum())) @ root.T
    return filled


def test_windows_that_continue_each_other_have_the_covariance_of_the_process_also_across_their_borders() -> None:
    values = np.zeros((4000, 1, 90))
    fill(values, np.zeros((1, 90), bool), WINDOW, exact_window)
    assert np.cov(values[:, 0].T) == pytest.approx(COVARIANCE[:90, :90], abs=0.1)


def test_a_gap_has_the_conditional_mean_of_the_process() -> None:
    given = np.random.default_rng(0).multivariate_normal(np.zeros(100), COVARIANCE[:100, :100])
    known = np.ones((1, 100), bool)
    known[0, 40:50] = False
    values = np.where(known, given, 1e6)[None].repeat(4000, axis=0)
    fill(values, known, WINDOW, exact_window)
    inside = known[0]
    expected = COVARIANCE[40:50, :100][:, inside] @ np.linalg.inv(COVARIANCE[:100, :100][inside][:, inside])
    assert values[:, 0, 40:50].mean(0) == pytest.approx(expected @ given[inside], abs=0.05)
    assert (values[:, 0, inside] == given[inside]).all()


def test_known_values_are_never_written() -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 100)).astype(np.float32)
    known = np.random.default_rng(1).random((3, 100)) < 0.5
    before = values.copy()
    fill(values, known, WINDOW, lambda values, known, *, number, start: np.full_like(values, 7))
    assert (values[:, known] == before[:, known]).all()
    assert (values[:, ~known] == 7).all()


def test_a_window_sees_only_what_is_known_by_then() -> None:
    seen = []

    def record(values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
        seen.append((number, start, known[0].sum().item(), known.shape))
        return values

    fill(np.zeros((1, 1, 80)), np.zeros((1, 80), bool), WINDOW, record)
    assert seen == [(0, 0, 0, (1, 32)), (1, 24, 8, (1, 32)), (2, 48, 8, (1, 32))]


def test_recordings_shorter_than_a_window_are_filled() -> None:
    values = np.zeros((3, 1, 10))
    fill(values, np.zeros((1, 10), bool), WINDOW, exact_window)
    assert (values != 0).all()


@pytest.mark.parametrize(
    ("stretches", "length", "starts"),
    [
        ([], 100, []),
        ([(50, 54)], 100, [36]),  # in the middle of a window
        ([(2, 6)], 100, [0]),
        ([(96, 100)], 100, [68]),
        ([(40, 60)], 100, [32]),  # as much before as after a gap would leave less than a quarter before
        ([(0, 100)], 100, [0, 24, 48, 68]),
        ([(30, 34), (38, 42)], 100, [16]),  # one window for both
        ([(10, 90)], 100, [2, 26, 50, 68]),
    ],
)
def test_windows_cover_all_that_is_missing(stretches: list[tuple[int, int]], length: int, starts: list[int]) -> None:
    known = np.ones((1, length), bool)
    for first, stop in stretches:
        known[:, first:stop] = False
    found = list(windows_to_fill(known, WINDOW))
    assert [start for start, _ in found] == starts
    covered = known[0].copy()
    for start, stop in found:
        covered[start:stop] = True
    assert covered.all()


def test_the_rough_end_of_a_window_is_left_to_the_next_one() -> None:
    known = np.zeros((1, 250), bool)
    assert list(windows_to_fill(known, 100)) == [(0, 98), (73, 171), (146, 244), (150, 250)]
    known[:, :180] = known[:, 200:] = True
    assert list(windows_to_fill(known, 100)) == [(140, 240)]


def test_a_gap_is_seen_from_both_sides_also_where_electrodes_are_missing() -> None:
    known = np.ones((2, 100), bool)
    known[0] = False
    known[:, 25:40] = False

    assert list(windows_to_fill(known, WINDOW)) == [(0, 25), (17, 49), (41, 73), (65, 97), (68, 100)]


def test_a_gap_that_no_window_sees_from_both_sides_is_continued() -> None:
    known = np.ones((2, 100), bool)
    known[0] = False
    known[:, 25:65] = False

    assert list(windows_to_fill(known, WINDOW))[:2] == [(0, 32), (24, 56)]


def test_progress_counts_windows() -> None:
    calls = []
    fill(
        np.zeros((1, 1, 80)), np.zeros((1, 80), bool), WINDOW, exact_window, on_window=lambda *call: calls.append(call)
    )
    assert calls == [(0, 3), (1, 3), (2, 3), (3, 3)]
