"""Baselines of restoration are what their names say: splines of MNE, ridge regression, lines, autoregression."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from scipy import signal

from signal_diffusion.data.recordings.positions import head_positions, standard_positions
from signal_diffusion.evaluation.restoration.electrodes import ALPHAS, ridge, splines
from signal_diffusion.evaluation.restoration.gaps import autoregressive, linear
from signal_diffusion.evaluation.restoration.scenarios import SHARES, referenced, scenarios_of

NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2")
SHAPE = (6, len(NAMES), 80)


def missing_sets(*sets: tuple[int, ...]) -> np.ndarray:
    """Windows of SHAPE that miss these electrodes in turn."""
    found = np.zeros(SHAPE, bool)
    for number in range(len(found)):
        found[number, sets[number % len(sets)]] = True
    return found


def mixed(windows: int, *, noise: float = 0.3) -> np.ndarray:
    """Signals (windows, electrodes, samples) of three sources that all electrodes have in common."""
    random = np.random.default_rng(windows)
    mixing = np.random.default_rng(0).standard_normal((len(NAMES), 3))
    sources, own = random.standard_normal((windows, 3, 80)), random.standard_normal((windows, len(NAMES), 80))
    return 10 * (mixing @ sources + noise * own)


def test_splines_are_those_of_mne_on_a_recording() -> None:
    signals, missing = mixed(6), missing_sets((1,), (4, 9))

    places = standard_positions(NAMES)

    found = splines(signals, missing, NAMES, places)

    info = mne.create_info(list(NAMES), 100.0, "eeg")
    raw = mne.io.RawArray(signals[1] * 1e-6, info, verbose="error")
    raw.set_montage(mne.channels.make_dig_montage(head_positions(places), coord_frame="head"))
    raw.info["bads"] = ["C3", "O2"]
    expected = raw.interpolate_bads(origin=(0, 0, 0.04), verbose="error").get_data(units="µV")
    np.testing.assert_allclose(found[1], expected, atol=1e-6)
    np.testing.assert_allclose(found[~missing], signals[~missing])


@pytest.mark.parametrize("share", SHARES)
def test_splines_are_finite_whatever_share_is_missing(share: float) -> None:
    [scenario, _], _ = scenarios_of(SHAPE, 80.0, shares=[share], gaps=[])

    assert np.isfinite(splines(mixed(6), scenario.missing, NAMES, standard_positions(NAMES))).all()


def test_ridge_is_least_squares_with_its_penalty_as_more_rows() -> None:
    signals, missing = mixed(6), missing_sets((2, 3))
    train, validation = mixed(40), mixed(20)

    found = ridge(signals, missing, train, validation, is_average=False)

    absent = missing[0].any(-1)
    x, y = (np.swapaxes(train, 1, 2).reshape(-1, len(NAMES))[:, which] for which in (~absent, absent))
    x_val, y_val = (np.swapaxes(validation, 1, 2).reshape(-1, len(NAMES))[:, which] for which in (~absent, absent))
    solutions = []
    for alpha in ALPHAS:
        root = np.sqrt(alpha * np.square(x).sum() / x.shape[1])
        rows = np.vstack([x, root * np.eye(x.shape[1])])
        solutions.append(np.linalg.lstsq(rows, np.vstack([y, np.zeros((x.shape[1], 2))]), rcond=None)[0])
    best = min(solutions, key=lambda weights: np.square(x_val @ weights - y_val).mean())
    np.testing.assert_allclose(found[:, absent], np.swapaxes(np.swapaxes(signals, 1, 2)[..., ~absent] @ best, 1, 2))
    np.testing.assert_array_equal(found[:, ~absent], signals[:, ~absent])


def test_ridge_restores_what_the_given_electrodes_determine() -> None:
    missing = missing_sets((0,), (2, 3, 5, 6))
    signals, train, validation = (mixed(count, noise=0) for count in (6, 40, 20))

    found = ridge(referenced(signals, missing), missing, train, validation, is_average=True)

    np.testing.assert_allclose(found, referenced(signals, missing), atol=0.01)


def test_linear_interpolation_restores_straight_lines() -> None:
    lines = np.broadcast_to(np.linspace(-3, 5, 80), SHAPE)
    missing = scenarios_of(SHAPE, 80.0, shares=[], gaps=[0.5])[0][0].missing

    np.testing.assert_allclose(linear(np.where(missing, np.nan, lines), missing), lines)


@pytest.mark.parametrize("kind", ["gap", "continuation"])
def test_an_autoregressive_process_without_noise_is_restored_exactly(kind: str) -> None:
    times, random = np.arange(400), np.random.default_rng(0)
    frequencies, phases = random.uniform(0.02, 0.4, (2, 3, 4, 1)), random.uniform(0, 2 * np.pi, (2, 3, 4, 1))
    waves = np.sin(2 * np.pi * frequencies * times + phases).sum(2)  # (2, 3, 400), each of order 8
    missing = next(each.missing for each in scenarios_of(waves.shape, 100.0, gaps=[1.0])[0] if each.kind == kind)

    found = autoregressive(np.where(missing, 1e6, waves), missing)

    np.testing.assert_allclose(found, waves, atol=1e-3)


def test_autoregression_across_a_gap_is_the_conditional_mean_of_the_process() -> None:
    slope, samples = 0.9, 20_000
    noise = np.random.default_rng(0).standard_normal(samples)
    process = signal.lfilter([1], [1, -slope], noise)[None, None]
    missing = np.zeros(process.shape, bool)
    missing[..., 10_000:10_003] = True

    found = autoregressive(process, missing, order=1)[missing]

    times = np.r_[9_900:10_100]
    covariance = slope ** np.abs(times[:, None] - times)  # a constant factor has no effect
    inside = missing[0, 0, times]
    weights = np.linalg.solve(covariance[np.ix_(~inside, ~inside)], covariance[np.ix_(~inside, inside)])
    np.testing.assert_allclose(found, process[0, 0, times][~inside] @ weights, atol=0.02)


def test_missing_electrodes_do_not_show_in_the_reference_of_the_given_ones() -> None:
    signals, missing = mixed(6), missing_sets((1, 2))

    found = referenced(signals, missing)

    louder = np.where(missing, 100 * signals, signals)
    again = referenced(louder - louder.mean(1, keepdims=True), missing)
    np.testing.assert_allclose(found.mean(1, where=~missing), 0, atol=1e-12)
    np.testing.assert_allclose(again[~missing], found[~missing])


def test_scenarios_take_the_shares_and_lengths_that_were_asked_for() -> None:
    found, notes = scenarios_of((8, 20, 512), 128.0)

    missing = {each.name: each.missing for each in found}
    assert list(missing) == [
        *(f"{share} % of electrodes" for share in (10, 30, 50, 70, 90)),
        *("gap of 0.25 s", "gap of 1 s", "continuation, 1 s"),
    ]
    assert notes == ["a gap of 4 s: left out, windows of 4 s are too short for it"]
    assert (missing["30 % of electrodes"].sum((1, 2)) == 6 * 512).all()
    assert len(np.unique(missing["30 % of electrodes"][..., 0], axis=0)) == 4
    assert (missing["gap of 1 s"].sum(2) == 128).all()
    assert not missing["gap of 1 s"][..., :64].any() and not missing["gap of 1 s"][..., -64:].any()
    assert missing["continuation, 1 s"][..., -128:].all()
