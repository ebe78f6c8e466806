"""What is measured of a window has the value that theory gives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from scipy import signal

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.features import BANDS, Features, Unavailable
from signal_diffusion.evaluation.per_window import COMPUTE, RIDGE
from signal_diffusion.evaluation.windows import Windows

SFREQ = 128.0


def features_of(signals: np.ndarray, sfreq: float = SFREQ) -> Features:
    return Features(Windows(signals=signals, sfreq=sfreq, ch_names=tuple(f"E{i}" for i in range(signals.shape[1]))))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def sine(frequency: float, amplitude: float, samples: int = 1024, sfreq: float = SFREQ) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / sfreq)[None, None]


def coloured(exponent: float, *, count: int = 40, samples: int = 2048, seed: int = 0) -> np.ndarray:
    """Noise with a spectrum of 1 / f^exponent."""
    frequencies = np.fft.rfftfreq(samples, 1 / SFREQ)
    spectra = np.fft.rfft(noise(count, 1, samples, seed=seed)) * np.maximum(frequencies, 0.5) ** (-exponent / 2)
    return np.fft.irfft(spectra, samples)


def test_the_power_of_a_sine_is_half_its_squared_amplitude_and_in_its_band():
    power = 10 ** features_of(sine(10, 8)).band_power[0, 0]

    assert power[list(BANDS).index("alpha")] == pytest.approx(32, rel=1e-3)
    assert np.delete(power, list(BANDS).index("alpha")).max() < 1e-3


def test_the_spectrum_of_white_noise_is_flat_at_twice_its_variance_over_the_rate():
    spectrum = features_of(3 * noise(200, 2, 1024)).spectrum.mean(0)

    assert spectrum[:, 2:-2] == pytest.approx(np.full(spectrum[:, 2:-2].shape, 9 * 2 / SFREQ), rel=0.1)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_aperiodic_exponent_is_that_of_the_noise(exponent: float):
    assert np.median(features_of(coloured(exponent)).aperiodic[..., 1]) == pytest.approx(exponent, abs=0.1)


@pytest.mark.parametrize("frequency", [8.3, 10.0, 11.6])
def test_the_alpha_peak_is_found_between_the_frequencies_of_the_spectrum(frequency: float):
    waves = coloured(1.5) + 0.3 * sine(frequency, 1, samples=2048)

    assert np.median(features_of(waves).alpha_peak) == pytest.approx(frequency, abs=0.15)


def test_the_envelope_of_gaussian_noise_varies_by_0_523_and_that_of_a_sine_not_at_all():
    gaussian = features_of(noise(150, 1, 4096)).envelope_variation

    assert gaussian.mean() == pytest.approx(np.sqrt(4 / np.pi - 1), abs=0.01)  # Rayleigh: √(4/π − 1) = 0.523
    assert features_of(sine(10, 5, 2048)).envelope_variation[0, 0, 1] < 0.01


def test_the_kurtosis_of_gaussian_noise_is_0_and_bursts_raise_it():
    signals = noise(100, 1, 2048)
    bursts = signals.copy()
    bursts[..., 500:600] *= 6

    assert features_of(signals).kurtosis.mean() == pytest.approx(0, abs=0.02)
    assert features_of(bursts).kurtosis.mean() > 3


def test_the_autocorrelation_of_a_sine_is_a_cosine():
    found = features_of(sine(8, 3, 4096)).autocorrelation[0, 0]
    lags = np.arange(1, 129) / SFREQ

    assert found == pytest.approx(np.cos(2 * np.pi * 8 * lags) * (1 - lags * SFREQ / 4096), abs=0.01)


def test_the_log_covariance_is_the_matrix_logarithm():
    features = features_of(noise(3, 4, 4, seed=1) @ noise(4, 512, seed=2))
    covariance = features.covariance[0].astype(float)
    ridge = RIDGE * np.trace(covariance) / 4
    expected = scipy.linalg.logm(covariance + ridge * np.eye(4))

    assert np.linalg.norm(features.log_covariance[0]) == pytest.approx(np.linalg.norm(expected), rel=1e-5)
    assert features.log_covariance[0, 0] == pytest.approx(expected[0, 0], rel=1e-4)


def test_the_coherence_is_that_of_scipy():
    signals = noise(1, 3, 2048)
    signals[:, 1] += signals[:, 0]
    frequencies, expected = signal.coherence(signals[0, 0], signals[0, 1], SFREQ, "hann", 256, 128, detrend=False)
    alpha = (frequencies >= 8) & (frequencies < 13)

    assert features_of(signals).coherence[0, 0, 2] == pytest.approx(expected[alpha].mean(), rel=0.02)


def test_a_part_has_the_features_of_its_rows_and_computes_none_again(monkeypatch: pytest.MonkeyPatch):
    whole = features_of(noise(6, 2, 1024))
    expected = whole.spectrum[[4, 1]]
    monkeypatch.setitem(COMPUTE, "spectrum", lambda features: pytest.fail("computed again"))

    assert np.array_equal(whole.take(np.array([5, 4, 1])).take(np.array([1, 2])).spectrum, expected)


@pytest.mark.parametrize(
    ("name", "samples", "complaint"),
    [
        ("envelope_variation", 256, "windows of 2 s; at least 3 s are needed"),
        ("autocorrelation", 128, "windows of 1 s; longer than 1 s are needed"),
        ("coherence", 400, "at least 4 s are needed"),
        ("aperiodic", 16, "too few frequencies"),
        ("band_power", 16, "no frequency of delta"),
    ],
)
def test_what_short_windows_do_not_have_is_said(name: str, samples: int, complaint: str):
    with pytest.raises(Unavailable, match=complaint):
        getattr(features_of(noise(2, 2, samples)), name)


@pytest.mark.parametrize(
    ("signals", "complaint"),
    [
        (np.zeros((0, 2, 100)), r"eeg: signals of shape \(0, 2, 100\); expected at least one window"),
        (np.zeros((2, 100)), "expected at least one window"),
        (np.full((3, 2, 100), np.nan), "eeg: 3 of 3 windows have values that are not finite"),
        (np.zeros((2, 3, 100)), "2 names of electrodes for signals with 3 electrodes"),
    ],
)
def test_windows_that_cannot_be_judged_are_refused(signals: np.ndarray, complaint: str):
    with pytest.raises(UserError, match=complaint):
        Windows(signals=signals, sfreq=SFREQ, ch_names=("C3", "C4"), name="eeg")
