"""Time series: the inverse is exact, and diffusion divides by their standard deviation."""

import math

import pytest
import torch

from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError


@pytest.fixture
def signals() -> torch.Tensor:
    """Windows (n, electrodes, samples) in µV, with an artefact of 30 standard deviations."""
    signals = torch.randn(50, 3, 256, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 10, 40])[:, None]
    signals[7, 1, 100] = 300.0
    return signals + 3


def test_the_inverse_is_exact(signals: torch.Tensor) -> None:
    representation = TimeSeries.fit(iter(signals.split(10)), sampling_rate=125.0, window=256)
    tensors = representation.to_tensor(signals)
    assert tensors.abs().max() == 1
    assert (representation.to_signal(tensors) - signals).abs().max() < 1e-4


def test_scaled_by_data_std_they_have_unit_variance_despite_artefacts(signals: torch.Tensor) -> None:
    representation = TimeSeries.fit(iter(signals.split(10)), sampling_rate=125.0, window=256)
    assert representation.data_std < 0.05
    assert (representation.to_tensor(signals) / representation.data_std).std((0, 1, 3)) == pytest.approx(1, rel=1e-3)


def test_older_cards_without_data_std_are_not_scaled() -> None:
    parameters = {"sampling_rate": 125.0, "window": 8, "mean": [0.0], "std": [1.0], "limit": 20.0}
    assert TimeSeries.from_parameters(parameters).data_std == 1


@pytest.mark.parametrize(("name", "value"), [*((name, 0.0) for name in REPRESENTATIONS), ("timeseries", 5.1)])
def test_constant_signals_are_refused_by_every_representation(name: str, value: float) -> None:
    signals = torch.full((4, 3, 1024), value)
    with pytest.raises(UserError, match="the signals of the training split are all zero or constant"):
        REPRESENTATIONS[name].fit(iter(signals.split(2)), sampling_rate=125.0, window=1024)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_windows_of_zeros_among_others_are_finite(name: str) -> None:
    signals = 20 * torch.randn(4, 3, 1024, generator=torch.Generator().manual_seed(0))
    signals[0], signals[:, 1] = 0, 0
    representation = REPRESENTATIONS[name].fit(iter(signals.split(2)), sampling_rate=125.0, window=1024)
    assert representation.to_tensor(signals).isfinite().all()


def montage() -> tuple[TimeSeries, list[list[float]]]:
    """Five electrodes on the equator, at 0, 10, 20, 40 and 180 degrees, of 1, 2, 4, 8 and 100 µV."""
    series = TimeSeries(
        sampling_rate=125.0, window=8, mean=(0.0, 1.0, 2.0, 3.0, 50.0), std=(1.0, 2.0, 4.0, 8.0, 100.0), limit=9.0
    )
    return series, [on_equator(degrees) for degrees in (0, 10, 20, 40, 180)]


def on_equator(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees)), 0.0]


def test_the_own_electrodes_keep_their_scale_to_the_bit_in_any_order() -> None:
    series, own = montage()
    assert series.for_electrodes(own, own) == series
    assert series.for_electrodes(own, [own[3], own[0]]).std == (8.0, 1.0)


def test_the_scale_of_another_electrode_is_that_of_the_four_nearest_by_inverse_square_angle() -> None:
    series, own = montage()
    found = series.for_electrodes(own, [on_equator(15)])
    weights = [1 / 15**2, 1 / 5**2, 1 / 5**2, 1 / 25**2]
    expected = sum(w * s for w, s in zip(weights, series.std, strict=False)) / sum(weights)
    assert found.std == pytest.approx([expected]) and found.shape == (1, 1, 8)
    assert found.mean == pytest.approx([sum(w * m for w, m in zip(weights, series.mean, strict=False)) / sum(weights)])


def test_the_range_is_that_of_all_electrodes_and_the_inverse_stays_exact() -> None:
    series, own = montage()
    other = series.for_electrodes(own, [on_equator(degrees) for degrees in (5, 200, 90)])
    signals = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0))
    assert (other.limit, other.data_std, other.window) == (series.limit, series.data_std, series.window)
    assert (other.to_signal(other.to_tensor(signals)) - signals).abs().max() < 1e-4
