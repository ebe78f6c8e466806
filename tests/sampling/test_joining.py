"""What is generated is joined to what is given: exactly for an autoregressive process, and in any reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import toeplitz
from scipy.signal import butter, lfilter, sosfiltfilt

from signal_diffusion.sampling import joining
from signal_diffusion.sampling.joining import autoregression, generated_again, joined

COEFFICIENTS = np.array([1.2, -0.6])
WINDOW = 400


@pytest.fixture(scope="module")
def signals() -> np.ndarray:
    """Three draws of five electrodes of an AR(2) process."""
    return process(np.random.default_rng(0).standard_normal((3, 5, WINDOW + 200)))[..., 200:]


def process(innovations: np.ndarray) -> np.ndarray:
    return lfilter([1], [1, *-COEFFICIENTS], innovations)


def missing_between(first: int, stop: int, electrodes: int = 5) -> np.ndarray:
    """What is given of a window of which all electrodes are missing there."""
    known = np.ones((electrodes, WINDOW), dtype=bool)
    known[:, first:stop] = False
    return known


def test_the_coefficients_are_those_of_the_process() -> None:
    found = process(np.random.default_rng(0).standard_normal((4, 20_000)))
    assert autoregression([found], 2) == pytest.approx(COEFFICIENTS, abs=0.02)
    parts = [found[:2, :9_000], 10 * found[:2, 12_000:], found[3:, :3]]
    assert autoregression(parts, 4) == pytest.approx([*COEFFICIENTS, 0, 0], abs=0.04)
    assert not autoregression([found[:, :4]], 4).any()


@pytest.mark.parametrize(("first", "stop"), [(150, 180), (300, WINDOW), (0, 90)])
def test_a_sample_of_the_process_becomes_one_given_what_is_there(
    first: int, stop: int, signals: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is Matheron's rule with all that is given, of which the network saw only what is further away."""
    monkeypatch.setattr(joining, "autoregression", lambda parts, order, noise: np.pad(COEFFICIENTS, (0, order - 2)))
    impulse = process(np.eye(1, 4000)[0])
    covariance = toeplitz([impulse[: 4000 - lag] @ impulse[lag:] for lag in range(WINDOW)])
    of_nothing = process(np.random.default_rng(1).standard_normal((3, 5, WINDOW + 200)))[..., 200:]

    def sample_given(seen: np.ndarray) -> np.ndarray:
        weights = np.linalg.solve(covariance[np.ix_(seen, seen)], covariance[seen])
        return of_nothing + (signals - of_nothing)[..., seen] @ weights

    known = missing_between(first, stop)
    again = generated_again(known, WINDOW)
    found = joined(signals, known, sample_given((known & ~again)[0]), again)

    assert np.array_equal(found[..., known[0]], signals[..., known[0]])
    assert found == pytest.approx(sample_given(known[0]), abs=1e-6)


def test_signals_that_agree_are_not_changed(signals: np.ndarray) -> None:
    known = missing_between(150, 180)
    assert np.array_equal(joined(signals, known, signals, generated_again(known, WINDOW)), signals)


def test_an_average_reference_is_kept() -> None:
    values, generated = np.random.default_rng(0).standard_normal((2, 2, 5, WINDOW)) * [
        [1.0],
        [9.0],
        [2.0],
        [0.1],
        [4.0],
    ]
    values, generated = (x - x.mean(1, keepdims=True) for x in (values, generated))
    known = missing_between(300, WINDOW)
    assert joined(values, known, generated, generated_again(known, WINDOW)).mean(1) == pytest.approx(0, abs=1e-12)


def test_an_electrode_is_joined_to_its_own_signal_only(signals: np.ndarray) -> None:
    known = np.ones((5, WINDOW), dtype=bool)
    known[1, 100:] = known[3] = False
    again = generated_again(known, WINDOW)
    assert again.sum(1).tolist() == [0, 32, 0, 0, 0] and again[1, 68:100].all()
    generated = signals + 1
    found = joined(signals, known, generated, again)
    assert np.array_equal(found[:, 3], generated[:, 3])
    assert np.abs(found - signals)[:, 1, 100].max() < 0.5 < np.abs(found - signals)[:, 1, -1].min()


@pytest.mark.parametrize("cutoff", [8.0, 20.0, 30.0, 40.0])
@pytest.mark.parametrize(("first", "stop"), [(100, 300), (150, 170), (300, WINDOW), (0, 90)])
def test_differences_do_not_grow_where_signals_lack_frequencies(cutoff: float, first: int, stop: int) -> None:
    random = np.random.default_rng(0)
    walks = random.standard_normal((1, 5, WINDOW + 2000)).cumsum(-1)
    values = sosfiltfilt(butter(4, [0.5, cutoff], "bandpass", fs=100, output="sos"), walks)[..., 1000 : 1000 + WINDOW]
    generated = values + random.standard_normal(values.shape).cumsum(-1) / 10
    known = missing_between(first, stop)
    again = generated_again(known, WINDOW)
    grown = np.abs(joined(values, known, generated, again) - generated)[..., ~known[0]].max()
    assert grown <= 2 * np.abs(values - generated)[..., again[0]].max()


def test_a_sine_is_continued_without_growing() -> None:
    values = 20 * np.sin(np.arange(WINDOW) * 0.6 + np.arange(5)[:, None])[None]
    generated = values + np.random.default_rng(0).standard_normal(values.shape)
    known = missing_between(100, 300)
    assert np.abs(joined(values, known, generated, generated_again(known, WINDOW))).max() < 40


def test_draws_do_not_depend_on_each_other_and_only_their_own_may_be_not_finite() -> None:
    values, generated = np.random.default_rng(0).standard_normal((2, 3, 2, WINDOW))
    known = missing_between(300, WINDOW, electrodes=2)
    again = generated_again(known, WINDOW)
    alone = joined(values[:1], known, generated[:1], again)
    values[1], values[2] = np.nan, 0.0
    found = joined(values, known, generated, again)
    assert np.array_equal(found[0], alone[0])
    assert np.isnan(found[1, :, 300:]).all() and np.isfinite(found[2]).all()


def test_less_is_generated_again_where_little_is_given() -> None:
    def counts(*stretch: int, electrodes: int = 5, window: int = WINDOW) -> int:
        return int(generated_again(~missing_between(*stretch, electrodes=electrodes)[:, :window], window)[0].sum())

    assert [counts(0, stop) for stop in (7, 40, 100, 300)] == [0, 10, 25, 32]
    assert [counts(100, 240), counts(0, 60, window=120)] == [64, 10]
    assert [counts(0, 60, window=90), counts(0, 100, electrodes=1), counts(0, 200, electrodes=1)] == [0, 0, 10]
