import json
from dataclasses import asdict

import pytest
import torch
from scipy.fft import dct

from signal_diffusion.diffusion.normalisation import UNCHANGED, Normalisation, cosines
from tests.diffusion import oracles

ROWS = Normalisation(mean=((0.2, -0.1), (0.0, 0.01)), std=((0.5, 0.1), (0.02, 1e-5)), exponent=(1.0, 0.25))


def test_x0_is_expanded_and_z_scored_row_by_row() -> None:
    x = torch.tensor([[[0.7, 0.2], [0.0, 0.1]], [[0.5, -0.5], [0.1, 0.0]]], dtype=torch.float64)  # (C, H, W)
    expected = [[[1.0, 0.0], [1.0, 2.0]], [[0.0625 / 0.02, -0.0625 / 0.02], [(1e-4 - 0.01) / 1e-5, -0.01 / 1e-5]]]
    assert torch.allclose(ROWS.normalised(x), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_restored_is_the_example(dtype: torch.dtype) -> None:
    x = torch.rand(5, 2, 2, 7, generator=torch.Generator().manual_seed(0), dtype=dtype) * 2 - 1
    found = ROWS.restored(ROWS.normalised(x))
    assert torch.allclose(ROWS.expanded(found), ROWS.expanded(x), atol=1e-7)  # rounded next to the mean
    assert torch.equal(UNCHANGED.restored(UNCHANGED.normalised(x)), x) and torch.equal(UNCHANGED.normalised(x), x)


def test_it_is_the_same_from_json() -> None:
    for each in (ROWS, Normalisation(spectrum=(1.0, 2.0))):
        assert Normalisation.from_json(json.loads(json.dumps(asdict(each)))) == each


def test_the_transform_is_scipys() -> None:
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert (x @ cosines(8)).numpy() == pytest.approx(dct(x.numpy(), norm="ortho"))


def test_x0_has_the_square_root_of_the_power_spectrum_and_noise_the_same_strength_at_all_times() -> None:
    covariance = oracles.autoregression((0.9, -0.05), 256)
    covariance /= covariance.diagonal().mean()
    power = (cosines(256).T @ covariance @ cosines(256)).diagonal()  # falls by 22 dB
    pink = Normalisation(spectrum=tuple(power.sqrt().tolist()))
    identity = torch.eye(256, dtype=torch.float64)
    there, back = pink.filtered(identity), pink.unfiltered(identity)

    x0 = there @ covariance @ there
    found = (cosines(256).T @ x0 @ cosines(256)).diagonal()

    assert x0.diagonal().mean() == pytest.approx(1, abs=0.05)
    assert (found / power.sqrt()).log().std() < 0.02
    noise = (back @ back).diagonal()
    assert noise.max() < 1.2 * noise.min()


def test_what_was_filtered_can_be_restored() -> None:
    pink = Normalisation(std=((0.04,),), spectrum=tuple(10 / (1 + k) for k in range(16)))
    x = torch.randn(2, 1, 3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert pink.restored(pink.normalised(x)).numpy() == pytest.approx(x.numpy())


@pytest.mark.parametrize(
    "fields",
    [
        {"std": ((0.0,),)},
        {"std": ((float("inf"),),)},
        {"mean": ((float("nan"),),)},
        {"mean": ((0.0, 0.0),)},
        {"exponent": (-1.0,)},
        {"spectrum": (1.0, 0.0)},
    ],
)
def test_what_does_not_fit_together_is_refused(fields: dict[str, tuple[object, ...]]) -> None:
    with pytest.raises(ValueError, match="mean and std have"):
        Normalisation(**fields)  # type: ignore[arg-type]
