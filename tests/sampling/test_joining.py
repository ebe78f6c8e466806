"""Windows are joined to what they continue: exactly for an autoregressive process, and in any reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from signal_diffusion.sampling.long import joining
from signal_diffusion.sampling.long.joining import autoregression, joined, overlap_of

COEFFICIENTS = np.array([1.2, -0.6])


def process(innovations: np.ndarray) -> np.ndarray:
    """An AR(2) process that starts from zero."""
    return lfilter([1], [1, *-COEFFICIENTS], innovations)


def test_the_coefficients_are_those_of_the_process() -> None:
    signals = process(np.random.default_rng(0).standard_normal((3, 4, 20_000)))
    assert autoregression(signals, 2) == pytest.approx(np.tile(COEFFICIENTS, (3, 1)), abs=0.02)
    higher = autoregression(signals * [[1.0], [10.0], [0.1], [3.0]], 4)
    assert higher == pytest.approx(np.tile([*COEFFICIENTS, 0, 0], (3, 1)), abs=0.04)


def test_a_window_of_the_process_goes_on_where_the_last_one_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "autoregression", lambda signals, order: np.tile(COEFFICIENTS, (len(signals), 1)))
    innovations = np.random.default_rng(0).standard_normal((5, 3, 60))
    before = process(innovations[..., :40])
    other = 7 * np.random.default_rng(1).standard_normal((5, 3, 2))  # where another window thinks that it ended

    generated = process(np.concatenate([np.zeros((5, 3, 2)), innovations[..., 40:]], axis=-1))
    generated += process(np.concatenate([other, np.zeros((5, 3, 20))], axis=-1))

    assert joined(before, generated, 2) == pytest.approx(process(innovations)[..., 40:])


def test_signals_that_agree_are_not_changed() -> None:
    before, following = np.random.default_rng(0).standard_normal((2, 2, 3, 30))
    generated = np.concatenate([before[..., -4:], following], axis=-1)
    assert np.array_equal(joined(before, generated, 4), following)
    assert np.array_equal(joined(before, following, 0), following)


def test_an_average_reference_is_kept() -> None:
    before, generated = np.random.default_rng(0).standard_normal((2, 2, 5, 60)) * [[1.0], [9.0], [2.0], [0.1], [4.0]]
    before, generated = (x - x.mean(1, keepdims=True) for x in (before, generated))
    assert joined(before, generated, 8).mean(1) == pytest.approx(0, abs=1e-12)


def test_draws_do_not_depend_on_each_other_and_only_their_own_may_be_not_finite() -> None:
    before, generated = np.random.default_rng(0).standard_normal((2, 3, 2, 50))
    alone = joined(before[:1], generated[:1], 8)
    before[1], before[2] = np.nan, 0.0
    found = joined(before, generated, 8)
    assert np.allclose(found[0], alone[0], rtol=1e-12, atol=0)
    assert np.isnan(found[1]).all() and np.isfinite(found[2]).all()


def test_there_is_no_overlap_where_little_is_there() -> None:
    assert [overlap_of(400, before) for before in (0, 3, 10, 400)] == [0, 0, 2, 8]
    assert overlap_of(32, 400) == 2
