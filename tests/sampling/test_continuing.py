"""Windows that continue each other: held to a process of which every window can be sampled exactly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from signal_diffusion.evaluation.seams import seam_floor, seams
from signal_diffusion.sampling import joining
from signal_diffusion.sampling.filling import FillWindow
from signal_diffusion.sampling.long.continuing import Continuation, continuations, continue_windows
from tests.sampling.test_filling import COVARIANCE, LONG, WINDOW, exact_window

SFREQ = 16.0


def exact(window: Continuation) -> FillWindow:
    return exact_window


def generated(draws: int, stops: list[int]) -> tuple[np.ndarray, list[int]]:
    """Recordings of eight AR(2) processes, (draws, 8, samples), and the borders of their windows."""
    values, windows = np.zeros((draws, 8, stops[-1])), continuations(stops, WINDOW)
    continue_windows(values, windows, WINDOW, exact)
    return values, [window.first for window in windows[1:]]


def test_the_process_is_the_same_across_borders() -> None:
    values, _ = generated(500, [30, 90])
    assert np.cov(values.reshape(-1, 90).T) == pytest.approx(COVARIANCE[:90, :90], abs=0.1)


def test_there_are_no_seams() -> None:
    values, borders = generated(50, [LONG])
    assert len(borders) == 16
    found = seams(values, borders, SFREQ)
    assert found.jump == pytest.approx(1, abs=0.03)
    assert found.envelope == pytest.approx(1, abs=0.02)
    assert found.spectrum < 0.3


def test_borders_are_within_the_floor_of_the_process() -> None:
    values, borders = generated(10, [LONG])
    found = seams(values, borders, SFREQ)
    real = np.random.default_rng(0).multivariate_normal(np.zeros(LONG), COVARIANCE, (40, 8))
    low, high = seam_floor(real, borders, SFREQ, count=10, repeats=100)
    assert low.jump < found.jump < high.jump
    assert low.envelope < found.envelope < high.envelope
    assert low.spectrum < found.spectrum < high.spectrum


def imprecise(values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
    """Sample the process by a network that sees given values with an error of 60 % of their standard deviation."""
    error = np.random.default_rng([number, start, 1]).standard_normal(values.shape)
    return exact_window(values + 0.6 * error, known, number=number, start=start)


@pytest.mark.parametrize("order", [0, joining.ORDER])
def test_what_a_network_sees_imprecisely_is_continued_without_a_jump_by_generating_some_of_it_again(
    order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "ORDER", order)
    values, windows = np.zeros((50, 8, LONG)), continuations([LONG], 120)
    continue_windows(values, windows, 120, lambda window: imprecise)
    borders = np.array([window.first for window in windows[1:-1]])
    jumps = [seams(values, borders + shift, SFREQ).jump for shift in range(4)]
    assert jumps[0] > 1.3 if not order else np.abs(np.array(jumps) - 1).max() < 0.12


@pytest.mark.parametrize("stops", [[32], [33], [400], [5, 10, 90], [90, 91, 92], [200, 232]])
def test_windows_add_to_each_other_without_gaps_and_to_one_block_each(stops: list[int]) -> None:
    windows = continuations(stops, WINDOW)
    assert windows[0].first == windows[0].start == 0
    assert windows[-1].stop == stops[-1]
    assert all(after.first == before.stop for before, after in pairwise(windows))
    for window in windows:
        block = (0, *stops)[window.block], stops[window.block]
        assert block[0] <= window.first < window.stop <= block[1]
        assert window.first - window.start == min(window.first, WINDOW // 4)
        assert window.stop - window.start <= WINDOW


def test_a_longer_recording_begins_with_a_shorter_one() -> None:
    short, long = (generated(3, [samples])[0] for samples in (77, 300))
    assert np.array_equal(short, long[:, :, :77])


def test_windows_are_numbered_through_and_know_where_they_start() -> None:
    seen = []

    def record(window: Continuation) -> FillWindow:
        def fill_window(values: np.ndarray, known: np.ndarray, *, number: int, start: int) -> np.ndarray:
            seen.append((window.block, number, start, int(known[0].sum()), known.shape))
            return values

        return fill_window

    done: list[int] = []
    continue_windows(np.zeros((1, 2, 80)), continuations([40, 80], WINDOW), WINDOW, record, on_window=done.append)
    shape = (2, WINDOW)
    assert seen == [(0, 0, 0, 0, shape), (0, 1, 24, 8, shape), (1, 2, 32, 8, shape), (1, 3, 56, 8, shape)]
    assert done == [0, 1, 2, 3, 4]
