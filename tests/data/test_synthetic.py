import numpy as np
import pytest
import scipy.signal

from signal_diffusion.data import synthetic
from signal_diffusion.data.synthetic import Person, spectrum_parameters

ADULT = Person(subject=0, gender="female", health="healthy", age=30.0)
ALPHA = slice(8, 13)


def simulated(label: str, seconds: int = 60, **changes: int) -> tuple[np.ndarray, synthetic.Parameters]:
    return synthetic.simulate(label, ADULT, seconds * 125, 125.0, **{"seed": 0, "recording": 0} | changes)


def test_the_spectrum_of_a_recording_equals_true_psd():
    signal, parameters = simulated("relaxed", seconds=1200)
    frequencies, measured = scipy.signal.welch(signal, 125.0, nperseg=500)
    ratio = measured[:, 6:200] / synthetic.true_psd(parameters, frequencies)[:, 6:200]  # 1.5 to 50 Hz
    # 600 half-overlapping segments: 6 % for one bin, and five times that for the largest of 3 700.
    assert abs(ratio.mean() - 1) < 0.02
    assert ratio.std() < 0.09
    assert np.abs(ratio - 1).max() < 0.4


def test_true_psd_integrates_to_the_variance():
    signal, parameters = simulated("alert", seconds=1200)
    frequencies = np.linspace(0, 62.5, 5000)
    power = np.trapezoid(synthetic.true_psd(parameters, frequencies), frequencies)
    assert np.allclose(signal.var(axis=1), power, rtol=0.08)


@pytest.mark.parametrize("label", synthetic.CLASSES)
def test_amplitudes_are_plausible_for_eeg(label):
    signal, _ = simulated(label)
    assert signal.dtype == np.float32
    assert ((signal.std(axis=1) > 7) & (signal.std(axis=1) < 50)).all()


def test_relaxed_subjects_have_strong_posterior_alpha():
    frequencies = np.arange(0, 63)
    relaxed, alert = (
        synthetic.true_psd(spectrum_parameters(label, ADULT), frequencies) for label in ("relaxed", "alert")
    )
    names = list(synthetic.POSITIONS)
    posterior, frontal = names.index("O1"), names.index("Fp1")
    assert relaxed[posterior, ALPHA].sum() > 3 * alert[posterior, ALPHA].sum()
    assert relaxed[posterior, ALPHA].sum() > 2 * relaxed[frontal, ALPHA].sum()


def test_alpha_slows_with_age():
    old = Person(subject=0, gender="female", health="healthy", age=80.0)
    assert spectrum_parameters("relaxed", old).rhythms["alpha"].center == pytest.approx(
        spectrum_parameters("relaxed", ADULT).rhythms["alpha"].center - 1.5
    )


def test_recordings_are_reproducible_and_different_from_each_other():
    signal, _ = simulated("relaxed")
    assert np.array_equal(signal, simulated("relaxed")[0])
    assert not np.array_equal(signal, simulated("relaxed", seed=1)[0])
    assert not np.array_equal(signal, simulated("relaxed", recording=1)[0])


def test_a_subject_has_the_same_spectrum_in_all_recordings():
    assert simulated("relaxed", recording=0)[1] == simulated("relaxed", recording=1)[1]
