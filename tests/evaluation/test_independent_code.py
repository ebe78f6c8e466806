"""Features and metrics have the values of pyriemann, NumPy, SciPy and torch, which compute them in another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pyriemann.geometry.tangentspace import tangent_space
from scipy import stats

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.metrics import METRICS
from signal_diffusion.evaluation.per_window import RIDGE
from signal_diffusion.evaluation.random_kernels import STRIDE, _kernels, random_kernel_features
from signal_diffusion.evaluation.windows import Windows

SFREQ = 100.0


def eeg(seed: int, exponent: float = 1.5) -> Features:
    """Noise of four related electrodes with a spectrum of 1 / f^exponent, 30 windows of 6 s, in µV."""
    random = np.random.default_rng(seed)
    frequencies = np.maximum(np.fft.rfftfreq(600, 1 / SFREQ), 0.5)
    spectra = np.fft.rfft(random.standard_normal((30, 4, 600))) * frequencies ** (-exponent / 2)
    signals = (np.eye(4) + 0.4 * random.uniform(size=(4, 4))) @ np.fft.irfft(spectra, 600)
    return Features(Windows(signals=20 * signals, sfreq=SFREQ, ch_names=("C3", "C4", "O1", "O2")))


@pytest.fixture(scope="module")
def sets() -> tuple[Features, Features]:
    return eeg(1), eeg(2, exponent=1.2)


def signals_of(features: Features) -> np.ndarray:
    """Without the mean of each window and electrode, (N, C, L)."""
    signals = features.windows.signals.astype(float)
    return signals - signals.mean(-1, keepdims=True)


def value(name: str, sets: tuple[Features, Features]) -> float:
    return METRICS[name].compute(*sets).value


def test_the_log_covariance_is_the_tangent_vector_of_pyriemann_at_the_identity(sets: tuple[Features, Features]) -> None:
    covariances = np.stack([np.cov(window, bias=True) for window in signals_of(sets[0])])
    ridges = RIDGE * np.trace(covariances, axis1=1, axis2=2) / 4
    expected = tangent_space(covariances + ridges[:, None, None] * np.eye(4), np.eye(4), metric="riemann")

    assert sets[0].log_covariance == pytest.approx(expected, abs=1e-4)


def test_the_aperiodic_part_is_the_line_of_least_squares(sets: tuple[Features, Features]) -> None:
    frequencies, spectrum = sets[0].frequencies, sets[0].spectrum[3, 1]
    fitted = (frequencies >= 2) & (frequencies <= 40) & ((frequencies < 7) | (frequencies > 14))
    line = stats.linregress(np.log10(frequencies[fitted]), np.log10(spectrum[fitted]))

    assert sets[0].aperiodic[3, 1] == pytest.approx([line.intercept, -line.slope], rel=1e-5)


def test_the_difference_of_correlations_is_that_of_numpy(sets: tuple[Features, Features]) -> None:
    first, second = (np.mean([np.corrcoef(window) for window in signals_of(each)], 0) for each in sets)
    pairs = np.triu_indices(4, 1)

    assert value("corrf", sets) == pytest.approx(np.sqrt(np.mean((first - second)[pairs] ** 2)), rel=1e-4)


def test_the_difference_of_autocorrelations_is_that_of_sums_over_lags(sets: tuple[Features, Features]) -> None:
    def mean(features: Features) -> np.ndarray:
        x = signals_of(features)
        found = [(x[..., lag:] * x[..., :-lag]).sum(-1) / (x * x).sum(-1) for lag in range(1, 101)]
        return np.mean(found, 1)

    expected = np.sqrt(np.mean((mean(sets[0]) - mean(sets[1])) ** 2))
    assert value("acf", sets) == pytest.approx(expected, rel=1e-4)


def test_the_distance_of_amplitudes_is_that_of_scipy_on_all_samples(sets: tuple[Features, Features]) -> None:
    first, second = (signals_of(each).swapaxes(0, 1).reshape(4, -1) for each in sets)
    expected = np.mean([stats.wasserstein_distance(a, b) / a.std() for a, b in zip(first, second, strict=True)])

    assert value("amp-w1", sets) == pytest.approx(expected, rel=0.03)  # 64 quantiles of each window stand for it


def test_random_kernels_are_convolutions_of_torch() -> None:
    signals = np.random.default_rng(0).standard_normal((2, 3, 256)).astype(np.float32)
    x = torch.from_numpy((signals - signals.mean(-1, keepdims=True)) / signals.std(-1, keepdims=True)).reshape(6, 1, -1)
    expected = []
    for dilation, (weights, biases) in _kernels(256, np.random.default_rng(0)).items():
        y = torch.conv1d(x, weights.T[:, None], biases, dilation=dilation, padding=4 * dilation)[..., ::STRIDE]
        expected += [each.reshape(2, 3, -1).mean(1) for each in ((y > 0).float().mean(-1), y.amax(-1))]

    assert random_kernel_features(signals) == pytest.approx(torch.cat(expected, 1).numpy(), abs=1e-5)
