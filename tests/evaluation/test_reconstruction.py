"""Metrics of a reconstruction, on signals with known values."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor
from typer.testing import CliRunner

from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.evaluation.reconstruction import BANDS, round_trip_metrics

WINDOW, RATE = 2048, 125.0
FREQUENCIES = {"delta": 2, "theta": 6, "alpha": 10, "beta": 20, "low_gamma": 38}


def rhythms(**amplitudes: float) -> Tensor:
    """Sum of one sinusoid per band, of 10 µV unless `amplitudes` differ, (1, window)."""
    seconds = torch.arange(WINDOW) / RATE
    waves = [amplitudes.get(band, 10.0) * torch.sin(2 * math.pi * hz * seconds) for band, hz in FREQUENCIES.items()]
    return torch.stack(waves).sum(0)[None]


def fitted(name: str) -> Representation:
    noise = torch.randn(2, 1, WINDOW, generator=torch.Generator().manual_seed(0)) * 60
    return REPRESENTATIONS[name].fit(iter([noise]), sampling_rate=RATE, window=WINDOW)


def metrics(name: str, before: Tensor, after: Tensor) -> dict[str, float]:
    representation = fitted(name)
    x, y = (representation.to_tensor(each[:, None] if name == "timeseries" else each) for each in (before, after))
    found = round_trip_metrics(x, y, representation, sampling_rate=RATE)
    return {key: values.item() for key, values in found.items()}


@pytest.mark.parametrize("name", ["db-iq", "db-polar", "timeseries"])
def test_half_the_alpha_amplitude_is_a_band_error_of_6_db_in_alpha_only(name: str) -> None:
    found = metrics(name, rhythms(), rhythms(alpha=5.0))
    assert found["band_error_alpha"] == pytest.approx(6.02, abs=0.05)
    assert all(found[f"band_error_{band}"] < 0.05 for band in BANDS if band != "alpha")
    assert found["correlation"] == pytest.approx(4.5 / math.sqrt(5 * 4.25), abs=0.01)


def test_db_only_examples_have_band_errors_but_no_correlation() -> None:
    found = metrics("db-only", rhythms(), rhythms(alpha=5.0))
    assert found["band_error_alpha"] == pytest.approx(6.02, abs=0.3)
    assert found["band_error_beta"] < 0.3
    assert "correlation" not in found


def test_errors_of_the_round_trip_script_name_its_options(synthetic_dataset: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "round_trip.py"
    app = typer.Typer()
    app.command()(runpy.run_path(str(script))["main"])
    arguments = [str(synthetic_dataset), "--vae", str(tmp_path / "nowhere")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and result.stderr.startswith("error: --vae: ")
    assert "than or equal to 1" in CliRunner().invoke(app, [*arguments, "--num", "0"]).stderr


def test_images_that_are_not_eeg_have_only_a_psnr() -> None:
    x = torch.zeros(3, 1, 8, 8)
    found = round_trip_metrics(x, x + 0.2, Picture(channels=1, size=8), sampling_rate=None)
    assert found.keys() == {"psnr"}
    torch.testing.assert_close(found["psnr"], torch.full((3,), 20.0))


def test_a_flat_electrode_among_others_changes_only_the_psnr() -> None:
    noise = torch.randn(2, 4, WINDOW, generator=torch.Generator().manual_seed(0)) * 60
    representation = REPRESENTATIONS["timeseries"].fit(iter([noise]), sampling_rate=RATE, window=WINDOW)
    before, after = rhythms().expand(1, 4, WINDOW).clone(), rhythms(alpha=5.0).expand(1, 4, WINDOW).clone()
    whole = round_trip_metrics(*map(representation.to_tensor, (before, after)), representation, sampling_rate=RATE)
    before[:, 2], after[:, 2] = 0.0, noise[0, 0] / 60  # flat before, noise of 1 µV after
    found = round_trip_metrics(*map(representation.to_tensor, (before, after)), representation, sampling_rate=RATE)
    for name in whole.keys() - {"psnr"}:
        torch.testing.assert_close(found[name], whole[name], atol=1e-4, rtol=1e-3)


def test_a_band_below_the_noise_of_amplifiers_has_no_error() -> None:
    found = metrics("timeseries", rhythms(low_gamma=1e-3), rhythms(low_gamma=0.0))
    assert found["band_error_low_gamma"] < 0.01


def test_a_flat_signal_has_finite_metrics() -> None:
    found = metrics("timeseries", torch.zeros(1, WINDOW), rhythms())
    assert all(math.isfinite(value) for value in found.values()) and found["correlation"] == 0
