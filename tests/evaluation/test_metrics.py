"""Metrics have the values of independent code, and see what they are for."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from prdc import compute_prdc
from scipy.stats import wasserstein_distance

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.copies import Training, attach_training
from signal_diffusion.evaluation.distribution import embedded, frechet_distance
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.metrics import METRICS, chosen_metrics
from signal_diffusion.evaluation.windows import Windows

SFREQ, CH_NAMES = 100.0, ("C3", "Cz", "C4")


def eeg(count: int = 160, *, seed: int = 0, samples: int = 600) -> Windows:
    """Coloured noise with correlated electrodes and a rhythm, of eight people."""
    random = np.random.default_rng(seed)
    white = random.standard_normal((count, 3, samples)).cumsum(-1)
    mixed = np.array([[1, 0.5, 0.2], [0.3, 1, 0.3], [0.2, 0.5, 1]]) @ (white - white.mean(-1, keepdims=True))
    rhythm = np.sin(2 * np.pi * (10 * np.arange(samples) / SFREQ + random.uniform(size=(count, 1, 1))))
    people = np.array([f"p{i % 8}" for i in range(count)])
    return Windows(signals=mixed + 5 * rhythm, sfreq=SFREQ, ch_names=CH_NAMES, columns={"subject": people})


def value(name: str, real: Features, synthetic: Features) -> float:
    return METRICS[name].compute(real, synthetic).value


@pytest.fixture(scope="module")
def sets() -> tuple[Features, Features]:
    return Features(eeg(seed=1)), Features(eeg(seed=2))


def test_the_embedding_of_the_real_windows_is_white(sets: tuple[Features, Features]):
    real, _ = embedded(*sets)

    assert np.cov(real, rowvar=False) == pytest.approx(np.eye(real.shape[1]), abs=1e-6)


def test_density_and_coverage_are_those_of_prdc(sets: tuple[Features, Features]):
    first, second = embedded(*sets)
    expected = compute_prdc(first, second, nearest_k=5)

    assert value("density", *sets) == pytest.approx(expected["density"])
    assert value("coverage", *sets) == pytest.approx(expected["coverage"])


def test_the_frechet_distance_is_that_of_the_matrix_square_root():
    random = np.random.default_rng(0)
    first, second = random.standard_normal((300, 6)), 1.5 * random.standard_normal((300, 6)) + 0.3
    covariances = [np.cov(each, rowvar=False) for each in (first, second)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root.real)

    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_mmd_is_unbiased_and_that_of_its_definition(sets: tuple[Features, Features]):
    x, y = embedded(*sets)
    n, m = len(x), len(y)
    width = np.median([np.linalg.norm(x[i] - x[j]) for i in range(n) for j in range(i)])

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * width**2))

    within = [(kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1)) for a in (x, y)]
    assert value("mmd", *sets) == pytest.approx(100 * (sum(within) - 2 * kernel(x, y).sum() / (n * m)), rel=1e-6)


def test_band_power_distance_is_the_mean_of_scipys_distances(sets: tuple[Features, Features]):
    first, second = (each.band_power for each in sets)
    expected = np.mean(
        [
            wasserstein_distance(first[:, c, b], second[:, c, b]) / first[:, c, b].std()
            for c in range(3)
            for b in range(5)
        ]
    )

    assert value("bp-w1", *sets) == pytest.approx(expected, rel=1e-5)


def test_the_distance_of_spectra_of_a_scaled_copy_is_its_scale_in_db(sets: tuple[Features, Features]):
    windows = sets[0].windows
    doubled = Features(Windows(signals=2 * windows.signals, sfreq=SFREQ, ch_names=CH_NAMES))

    measured = METRICS["lsd"].compute(sets[0], doubled)
    assert measured.value == pytest.approx(20 * np.log10(2), abs=1e-3)
    assert measured.electrodes == pytest.approx(dict.fromkeys(CH_NAMES, 20 * np.log10(2)), abs=1e-3)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in METRICS
        if METRICS[name].better == "smaller"
        and METRICS[name].question not in ("copies", "conditions", "spectrogram")
        and METRICS[name].fitted_to_train is None
    ],
)
def test_a_set_has_no_distance_to_itself(sets: tuple[Features, Features], name: str):
    assert value(name, sets[0], sets[0]) == pytest.approx(0, abs=1e-6) or name == "mmd"


def test_classifiers_tell_other_spectra_and_not_other_noise(sets: tuple[Features, Features]):
    white = np.random.default_rng(0).standard_normal(sets[1].windows.signals.shape)
    other = Features(Windows(signals=white, sfreq=SFREQ, ch_names=CH_NAMES, columns=sets[1].windows.columns))

    for name in ("c2st", "rocket"):
        assert value(name, sets[0], other) > 0.99
        assert 0.3 < value(name, *sets) < 0.7


@pytest.mark.parametrize("shift", [0, 20, 50])
def test_copies_are_seen_whatever_their_shift_and_noise(shift: int):
    train, new = eeg(60, seed=1), eeg(60, seed=2)
    training = Training(train)
    copied = np.roll(train.signals, shift, axis=-1) + 0.1 * new.signals
    sets = [Features(Windows(signals=signals, sfreq=SFREQ, ch_names=CH_NAMES)) for signals in (copied, new.signals)]
    for each in sets:
        attach_training(each, training)

    assert value("copies", sets[0], sets[0]) > 95
    assert value("copies", sets[0], sets[1]) < 60
    assert value("nn-ratio", sets[0], sets[0]) < 0.7 * value("nn-ratio", sets[0], sets[1])


@pytest.mark.parametrize(
    ("name", "count", "complaint"),
    [
        ("eeg-fd", 10, "10 real windows; more than 42 are needed"),
        ("coverage", 10, "are needed"),
        ("c2st", 4, "fewer than 5 people or windows"),
        ("rocket", 4, "fewer than 5 people or windows"),
        ("bp-w1", 1, "at least two different real windows"),
    ],
)
def test_too_few_windows_are_said(name: str, count: int, complaint: str):
    few = Features(eeg(count))

    with pytest.raises(Unavailable, match=complaint):
        METRICS[name].compute(few, few)


def test_one_electrode_has_no_space():
    single = Features(Windows(signals=eeg().signals[:, :1], sfreq=SFREQ, ch_names=("Cz",)))

    for name in ("corrf", "coherence"):
        with pytest.raises(Unavailable, match="one electrode; at least two are needed"):
            METRICS[name].compute(single, single)
    assert value("eeg-fd", single, single) == pytest.approx(0, abs=1e-6)


def test_an_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="--metrics: unknown metric 'fid'; use some of: unusable, lsd, bp-w1"):
        chosen_metrics(["lsd", "fid"])


@pytest.mark.parametrize(
    ("name", "values", "ratio"),
    [
        ("lsd", (3.0, 1.5), 2.0),
        ("coverage", (0.19, 0.39), 2.0),
        ("c2st", (0.9, 0.6), 1.5),
        ("c2st", (0.3, 0.5), 1.0),
        ("copies", (100.0, 0.0), 101.0),
        ("bp-w1", (0.5, 0.0), None),
    ],
)
def test_a_ratio_above_1_is_worse_than_real_people(name: str, values: tuple[float, float], ratio: float | None):
    assert METRICS[name].ratio(*values) == (None if ratio is None else pytest.approx(ratio))
