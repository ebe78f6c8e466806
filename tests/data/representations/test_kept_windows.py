"""Rows of spectrograms, as diffusion sees them, have mean 0 and standard deviation 1."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import lfilter
from torch import Tensor

from signal_diffusion.data.representations.kept_windows import MOST, EvenlyKept
from signal_diffusion.data.representations.registry import representation_named
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.data.representations.spectrogram import Spectrogram
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.diffusion.normalisation import UNCHANGED, cosines

MOSAIC = PictureOptions(layout="mosaic", size=64)


@pytest.fixture(scope="module")
def signals() -> Tensor:
    """Walks in µV, (windows, electrodes, samples): power that falls with the frequency, as that of EEG."""
    noise = torch.randn(12, 3, 2048, generator=torch.Generator().manual_seed(0))
    walks = noise.cumsum(-1)
    return walks - walks.mean(-1, keepdim=True)


def fitted(name: str, signals: Tensor, pictures: PictureOptions) -> Spectrogram:
    found = representation_named(name).fit(
        iter(signals.split(5)), sampling_rate=125.0, window=signals.shape[-1], pictures=pictures
    )
    assert isinstance(found, Spectrogram)
    return found


@pytest.mark.parametrize("pictures", [PictureOptions(), MOSAIC], ids=["electrode", "mosaic"])
@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar"])
def test_each_row_that_is_not_constant_has_mean_0_and_standard_deviation_1(
    name: str, pictures: PictureOptions, signals: Tensor
) -> None:
    representation = fitted(name, signals, pictures)
    tensors = representation.to_tensor(signals).double()
    filled = tensors.reshape(-1, *tensors.shape[-3:])[..., : representation.transform.columns]
    x0 = representation.normalisation.normalised(filled)
    spread = representation.normalisation.expanded(filled).std((0, 3))
    constant = spread < 1e-6 * spread.amax(1, keepdim=True)
    assert x0.mean((0, 3)).abs().max() < 1e-4
    assert x0.std((0, 3))[~constant].numpy() == pytest.approx(1, abs=1e-3)
    assert torch.isfinite(x0).all() and constant.sum() <= 2  # the imaginary part at 0 Hz and at Nyquist


@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar"])
def test_empty_columns_of_a_mosaic_are_zero_and_come_back(name: str, signals: Tensor) -> None:
    representation = fitted(name, signals, PictureOptions(layout="mosaic", size=64))
    tensors, columns = representation.to_tensor(signals), representation.transform.columns
    assert 0 < columns < 64
    x0 = representation.normalisation.normalised(tensors)
    assert (x0[..., columns:] == 0).all() and x0[..., :columns].square().mean() == pytest.approx(1, abs=0.05)
    assert torch.allclose(representation.normalisation.restored(x0), tensors, atol=1e-4)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_rounding_of_the_imaginary_part_is_not_made_large(size: int, signals: Tensor) -> None:
    pictures = PictureOptions(layout="mosaic", size=size)
    representation = fitted("db-iq", signals - signals.mean(-2, keepdim=True), pictures)
    assert representation.normalisation.std[2][-1] == 1  # at 0 Hz
    assert min(map(min, representation.normalisation.std)) > 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [[0.0] * 10], "std": [[1.0] * 10]},
        {"mean": [[0.0] * 64] * 3, "std": [[1.0] * 64] * 3},
        {"mean": [[[0.0]] * 64], "std": [[[1.0]] * 64]},
        {"mean": [[]], "std": [[]]},
        {"std": [[None] * 64]},
        {"exponent": [1.0, 0.25, 0.25]},
        {"exponent": [0.25]},
    ],
)
def test_parameters_that_do_not_fit_the_spectrogram_are_refused(changes: dict[str, Any], signals: Tensor) -> None:
    representation = fitted("db-only", signals, PictureOptions())
    parameters = json.loads(json.dumps(representation.parameters()))
    parameters["normalisation"] |= changes
    with pytest.raises(ValueError, match="mean"):
        type(representation).from_parameters(parameters)


def test_diffusion_sees_amplitudes_in_proportion_to_microvolts(signals: Tensor) -> None:
    representation = fitted("db-iq", signals, PictureOptions())
    once, twice = (representation.to_tensor(each)[:, :, 1:] for each in (signals / 4, signals / 2))
    rows = replace(representation.normalisation, mean=tuple((0.0,) * 64 for _ in range(3)))
    part = replace(rows, mean=rows.mean[1:], std=rows.std[1:], exponent=rows.exponent[1:])
    assert torch.allclose(2 * part.normalised(once), part.normalised(twice), rtol=1e-3, atol=1e-4)


def test_signals_come_back_from_x0(signals: Tensor) -> None:
    for name in ("db-iq", "db-polar"):
        representation = fitted(name, signals, PictureOptions())
        tensors = representation.to_tensor(signals).half().float()  # as they are stored
        x0 = representation.normalisation.normalised(tensors)
        found = representation.to_signal(representation.normalisation.restored(x0))
        assert (found - signals).norm() / signals.norm() < 2e-3


def test_older_cards_have_no_normalisation_and_new_ones_keep_it(signals: Tensor) -> None:
    representation = fitted("db-iq", signals, PictureOptions())
    parameters = representation.parameters()
    assert type(representation).from_parameters(parameters) == representation
    del parameters["normalisation"]
    assert type(representation).from_parameters(parameters).normalisation == UNCHANGED


def test_the_spectrum_of_x0_of_time_series_falls_half_as_steeply_as_theirs(signals: Tensor) -> None:
    steps = signals.diff(dim=-1, prepend=signals[..., :1]).numpy()
    lacking = torch.from_numpy(lfilter([1.0], [1.0, -0.95], steps))
    lacking[3, 1] = torch.nan  # an electrode that a recording does not have
    series = TimeSeries.fit(iter(lacking.split(5)), sampling_rate=125.0, window=signals.shape[-1])
    scores = series.to_tensor(lacking)[:, 0].double() / series.data_std
    scores = scores[~scores.isnan().any(2)]
    before, after = (
        (each @ cosines(signals.shape[-1])).square().mean(0) for each in (scores, series.normalisation.filtered(scores))
    )
    fall, left = (each[10:50].mean() / each[-500:].mean() for each in (before, after))
    assert fall > 300 and left == pytest.approx(fall.sqrt().item(), rel=0.1)
    assert after.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("count", [1, MOST, MOST + 1, 1000, 5000])
def test_the_windows_that_are_kept_are_evenly_spread(count: int) -> None:
    kept, numbered = EvenlyKept(), torch.arange(count).float()[:, None, None]
    passed = list(kept.passing(iter(numbered.split(7))))
    assert torch.equal(torch.cat(passed), numbered)
    found = [int(window) for window in kept.windows]
    assert found[0] == 0 and len(set(np.diff(found))) <= 1
    assert min(count, MOST / 2) <= len(found) <= MOST and found[-1] + found[min(1, len(found) - 1)] >= count - 1
