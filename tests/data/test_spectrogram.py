import json

import numpy as np
import pytest
import torch

from signal_diffusion.data import synthetic
from signal_diffusion.data.spectrogram import STFT, DbOnly, representation_named
from signal_diffusion.errors import UserError

PICTURE = DbOnly(sampling_rate=125.0, window=2048, db_min=-60.0, db_max=40.0)


@pytest.fixture(scope="module")
def eeg() -> torch.Tensor:
    who = synthetic.person(0, 0)
    signal, _ = synthetic.simulate("relaxed", who, 2 * 2048, 125.0, seed=0, recording=0)
    return torch.from_numpy(signal).unflatten(-1, (2, 2048)).movedim(1, 0)  # (2, 19, 2048)


def sinusoid(amplitude: float, bin_number: int) -> torch.Tensor:
    frequency = bin_number * 125.0 / 126
    return torch.tensor(amplitude * np.sin(2 * np.pi * frequency * np.arange(2048) / 125.0))


def test_a_window_is_a_picture_in_range_whatever_its_leading_dimensions(eeg):
    pictures = PICTURE.to_tensor(eeg)
    assert pictures.shape == (2, 19, 1, 64, 64)
    assert pictures.dtype == torch.float32
    assert pictures.abs().max() <= 1
    assert torch.equal(PICTURE.to_tensor(eeg[1, 3]), pictures[1, 3])


@pytest.mark.parametrize("bin_number", [3, 10, 40])
def test_a_sinusoid_appears_in_its_row_counted_from_the_bottom_at_its_level(bin_number):
    picture = PICTURE.to_tensor(sinusoid(10.0, bin_number))[0]
    assert (picture[:, 2:-2].argmax(0) == 63 - bin_number).all()
    level = (picture[63 - bin_number, 2:-2] + 1) / 2 * 100 - 60
    assert torch.allclose(level, torch.tensor(20.0), atol=0.05)  # 10 µV are 20 dB


def test_mean_spectrum_peaks_at_the_sinusoids_frequency():
    frequencies, level = PICTURE.mean_spectrum(PICTURE.to_tensor(sinusoid(10.0, 10))[None])
    assert frequencies[0] == 0
    assert frequencies[-1] == 62.5
    assert frequencies[level.argmax()] == pytest.approx(10 * 125 / 126)
    assert level.max() == pytest.approx(20.0, abs=0.5)


def test_the_transform_is_inverted_to_the_first_and_last_sample(eeg):
    restored = STFT().inverse(STFT().forward(eeg))
    assert ((restored - eeg).abs().amax() / eeg.abs().amax()) < 1e-5


def test_a_picture_becomes_a_signal_with_its_spectrum_and_amplitude(eeg):
    pictures = PICTURE.to_tensor(eeg)
    signal = PICTURE.to_signal(pictures)
    wanted, got = STFT().forward(eeg).abs(), STFT().forward(signal).abs()
    assert (got - wanted).norm() / wanted.norm() < 0.2  # spectral convergence; 1 for a wrong scale or phase noise
    assert signal.std() == pytest.approx(float(eeg.std()), rel=0.1)


def test_the_phase_is_seeded_and_examples_do_not_depend_on_their_batch(eeg):
    pictures = PICTURE.to_tensor(eeg[:1, :3])[0]
    generator = torch.Generator().manual_seed(0)
    one_by_one = torch.stack([PICTURE.to_signal(picture, generator) for picture in pictures])
    assert torch.allclose(one_by_one, PICTURE.to_signal(pictures), atol=1e-3)
    other = PICTURE.to_signal(pictures, torch.Generator().manual_seed(1))
    assert not torch.allclose(other, one_by_one, atol=1.0)


def test_limits_are_percentiles_of_the_levels_and_no_more_than_70_db_apart(eeg):
    fitted = DbOnly.fit([eeg[:1], eeg[1:]], sampling_rate=125.0, window=2048)
    levels = 20 * torch.log10(STFT().forward(eeg).abs()).numpy()
    assert np.allclose([fitted.db_min, fitted.db_max], np.percentile(levels, (0.5, 99.99)), atol=0.2)
    silent_half = torch.cat([eeg, 1e-5 * eeg])
    narrowed = DbOnly.fit([silent_half], sampling_rate=125.0, window=2048)
    assert narrowed.db_max - narrowed.db_min == pytest.approx(70.0)


def test_parameters_survive_json():
    parameters = json.loads(json.dumps(PICTURE.parameters()))
    assert representation_named("db-only").from_parameters(parameters) == PICTURE


def test_an_unknown_representation_is_answered_with_those_there_are():
    with pytest.raises(UserError, match=r"'db-onyl'.*db-only"):
        representation_named("db-onyl")


def test_a_window_that_makes_no_whole_picture_is_refused():
    with pytest.raises(UserError, match=r"window: 2000 samples.*multiple of 32"):
        STFT(window=2000)
