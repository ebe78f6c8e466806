import json

import numpy as np
import pytest
import torch

from signal_diffusion.data import synthetic
from signal_diffusion.data.representations.mosaic import Mosaic
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.data.representations.stft import STFT
from signal_diffusion.errors import UserError

SPECTROGRAMS = ("db-only", "db-iq", "db-polar")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def eeg() -> torch.Tensor:
    who = synthetic.person(0, 0)
    signal, _ = synthetic.simulate("relaxed", who, 2 * 2048, 125.0, seed=0, recording=0)
    signals = torch.from_numpy(signal).float().unflatten(-1, (2, 2048)).movedim(1, 0)  # (2, 19, 2048)
    return torch.cat([signals, signals[:, :2].flip(-1)], dim=1)  # (2, 21, 2048)


def fitted(name: str, signals: torch.Tensor, size: int, frequency: str = "linear"):
    pictures = PictureOptions(layout="mosaic", size=size, frequency=frequency)
    return REPRESENTATIONS[name].fit([signals], sampling_rate=125.0, window=signals.shape[-1], pictures=pictures)


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("frequency", ["linear", "log"])
@pytest.mark.parametrize("window", [1024, 2000, 2048])
@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("electrodes", [7, 19, 20, 21])
def test_mosaics_are_square_in_range_and_invertible_if_declared_exact(electrodes, size, window, frequency, eeg):
    signals = eeg[:, :electrodes, :window]
    mosaic = fitted("db-iq", signals, size, frequency)
    tensor = mosaic.to_tensor(signals)
    assert tensor.shape == (2, 3, size, size) and mosaic.shape == (3, size, size)
    assert tensor.dtype == torch.float32 and tensor.abs().max() <= 1
    strip = size // electrodes
    assert (tensor[:, 0, :, electrodes * strip :] == -1).all() and (tensor[:, 1:, :, electrodes * strip :] == 0).all()
    assert mosaic.inverse == ("exact" if frequency == "linear" and window / strip <= size - 1 else "none")
    if mosaic.inverse == "exact":
        assert relative_error(mosaic.to_signal(tensor), signals) < 1e-5
    else:
        with pytest.raises(UserError, match="cannot be turned into signals; use --layout electrode"):
            mosaic.to_signal(tensor)


@pytest.mark.parametrize("frequency", ["linear", "log"])
@pytest.mark.parametrize("size", [64, 256])
def test_a_sinusoid_on_one_electrode_appears_only_in_its_strip_and_row(size, frequency):
    signals = torch.zeros(1, 20, 2048)
    signals[0, 13] = torch.tensor(10 * np.sin(2 * np.pi * 10 * np.arange(2048) / 125))
    mosaic = Mosaic(electrodes=20, size=size, frequency=frequency)
    level = mosaic.forward(signals)[0].abs()
    strip = size // 20
    own = level[:, 13 * strip : 14 * strip]
    nearest = int((mosaic.frequencies - 10).abs().argmin())
    assert ((own.argmax(0) - nearest).abs() <= 1).all()
    assert own[:, 1].max() == pytest.approx(10.0, rel=0.15)  # half a bin off centre costs 1.4 dB
    assert level.count_nonzero() == own.count_nonzero()  # silence everywhere else
    image = fitted("db-only", signals + 0.01 * torch.randn_like(signals), size, frequency).to_tensor(signals)[0, 0]
    assert abs(int(image[:, 13 * strip].argmax()) - (size - 1 - nearest)) <= 1  # counted from the bottom


@pytest.mark.parametrize("name", SPECTROGRAMS)
@pytest.mark.parametrize("frequency", ["linear", "log"])
def test_the_mean_spectrum_agrees_with_the_layout_electrode(name, frequency, eeg):
    mosaic = fitted(name, eeg, 64, frequency)
    frequencies, level = mosaic.mean_spectrum(mosaic.to_tensor(eeg))
    assert (frequencies.diff() > 0).all() and frequencies[-1] == pytest.approx(62.5)
    per_electrode = STFT().forward(eeg).abs().square().mean(-1).log10().mean((0, 1)) * 10
    expected = np.interp(frequencies, STFT().frequencies, per_electrode)
    inside = (frequencies > 2) & (frequencies < 40)
    assert np.abs(level.numpy() - expected)[inside].max() < 1  # dB


@pytest.mark.parametrize("name", SPECTROGRAMS)
@pytest.mark.parametrize(("size", "frequency"), [(64, "linear"), (64, "log"), (256, "linear")])
def test_parameters_survive_json(name, size, frequency, eeg):
    mosaic = fitted(name, eeg, size, frequency)
    assert mosaic.layout == "mosaic" and not mosaic.per_electrode
    assert type(mosaic).from_parameters(json.loads(json.dumps(mosaic.parameters()))) == mosaic


def test_limits_are_fitted_without_empty_columns(eeg):
    mosaic = fitted("db-only", eeg[:, :20], 64)
    levels = 20 * mosaic.transform.forward(eeg[:, :20])[..., :60].abs().log10()
    assert np.allclose([mosaic.db_min, mosaic.db_max], np.percentile(levels, (0.5, 99.99)), atol=0.5)


def test_a_column_averages_the_power_of_its_part_of_the_window():
    signals = torch.randn(3, 2048) * torch.linspace(1, 20, 2048)
    mosaic = Mosaic(electrodes=3, size=32)
    assert mosaic.frames_per_column > 1
    pooled = mosaic.forward(signals)[:, :30].abs().square().unflatten(-1, (3, 10))  # (rows, electrodes, columns)
    frames = mosaic.stft.forward(torch.cat([signals, signals[:, -mosaic.stft.window + 2047 : -1].flip(-1)], -1))
    power = frames.abs().square().unflatten(-1, (10, -1)).mean(-1).transpose(0, 1)
    assert torch.allclose(pooled, power, rtol=1e-4)


def test_logarithmic_rows_preserve_the_power_of_a_flat_spectrum():
    noise = torch.randn(64, 4, 2048)
    linear = Mosaic(electrodes=4, size=64).forward(noise)[..., 2:-2, :].abs().square().mean()
    log = Mosaic(electrodes=4, size=64, frequency="log").forward(noise)[..., 10:-2, :].abs().square().mean()
    assert log == pytest.approx(float(linear), rel=0.02)


def test_number_of_rows_below_4_hz_and_per_octave():
    assert Mosaic(electrodes=20, size=64).rows_below_4_hz == 5
    assert Mosaic(electrodes=20, size=256).rows_below_4_hz == 17
    small, large = (Mosaic(electrodes=20, size=size, frequency="log") for size in (64, 256))
    assert (small.rows_below_4_hz, large.rows_below_4_hz) == (22, 86)
    assert (small.rows_per_octave, large.rows_per_octave) == (
        pytest.approx(10.56, abs=0.01),
        pytest.approx(42.74, abs=0.01),
    )


def test_an_estimated_phase_does_not_depend_on_the_batch(eeg):
    mosaic = fitted("db-only", eeg[:, :20], 256)
    assert mosaic.inverse == "approximate"
    images = mosaic.to_tensor(eeg[:, :20])
    generator = torch.Generator().manual_seed(0)
    one_by_one = torch.stack([mosaic.to_signal(image, generator) for image in images])
    assert one_by_one.shape == (2, 20, 2048)
    assert torch.allclose(one_by_one, mosaic.to_signal(images), atol=1e-2)


@pytest.mark.parametrize("name", ["db-iq", "db-polar"])
def test_float16_keeps_the_signal_to_half_a_percent(name, eeg):
    mosaic = fitted(name, eeg, 256)
    assert relative_error(mosaic.to_signal(mosaic.to_tensor(eeg).half().float()), eeg) < 5e-3


@pytest.mark.parametrize(
    ("pictures", "window", "electrodes", "rate", "complaint"),
    [
        (PictureOptions(layout="mosaic"), 2048, 65, 125.0, "65 electrodes do not fit .* --picture-size of at least 66"),
        (PictureOptions(layout="mosaic", size=256), 500, 20, 125.0, "window: 500 .* at least 510 samples"),
        (PictureOptions(layout="mosaic", frequency="log"), 2048, 20, 2.0, "--frequency log"),
        (PictureOptions(), 2000, 20, 125.0, "window: 2000"),
    ],
)
def test_impossible_options_are_errors_before_reading(pictures, window, electrodes, rate, complaint):
    with pytest.raises(UserError, match=complaint):
        REPRESENTATIONS["db-iq"].check(pictures, sampling_rate=rate, window=window, electrodes=electrodes)
