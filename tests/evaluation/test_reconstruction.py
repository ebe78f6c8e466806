"""Figures of a reconstruction, on signals whose figures are known."""

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
from signal_diffusion.evaluation.reconstruction import BANDS, round_trip_figures

WINDOW, RATE = 2048, 125.0
BROAD = {"delta": 2, "theta": 6, "alpha": 10, "beta": 20, "low_gamma": 38}


def rhythms(**amplitudes: float) -> Tensor:
    """A sinusoid in each band, 10 µV unless said otherwise, (1, window)."""
    seconds = torch.arange(WINDOW) / RATE
    waves = [amplitudes.get(band, 10.0) * torch.sin(2 * math.pi * hz * seconds) for band, hz in BROAD.items()]
    return torch.stack(waves).sum(0)[None]


def fitted(name: str) -> Representation:
    noise = torch.randn(2, 1, WINDOW, generator=torch.Generator().manual_seed(0)) * 60
    return REPRESENTATIONS[name].fit(iter([noise]), sampling_rate=RATE, window=WINDOW)


def figures(name: str, before: Tensor, after: Tensor) -> dict[str, float]:
    representation = fitted(name)
    x, y = (representation.to_tensor(each[:, None] if name == "timeseries" else each) for each in (before, after))
    found = round_trip_figures(x, y, representation, sampling_rate=RATE)
    return {key: values.item() for key, values in found.items()}


@pytest.mark.parametrize("name", ["db-iq", "db-polar", "timeseries"])
def test_half_the_alpha_is_6_db_of_alpha_and_nothing_of_the_others(name: str) -> None:
    found = figures(name, rhythms(), rhythms(alpha=5.0))
    assert found["band_error_alpha"] == pytest.approx(6.02, abs=0.05)
    assert all(found[f"band_error_{band}"] < 0.05 for band in BANDS if band != "alpha")
    assert found["correlation"] == pytest.approx(4.5 / math.sqrt(5 * 4.25), abs=0.01)


def test_decibels_alone_tell_rhythms_and_no_correlation() -> None:
    found = figures("db-only", rhythms(), rhythms(alpha=5.0))
    assert found["band_error_alpha"] == pytest.approx(6.02, abs=0.3)
    assert found["band_error_beta"] < 0.3
    assert "correlation" not in found


def test_the_script_names_its_own_option(synthetic_dataset: Path, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "round_trip.py"
    app = typer.Typer()
    app.command()(runpy.run_path(str(script))["main"])
    arguments = [str(synthetic_dataset), "--vae", str(tmp_path / "nowhere")]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 2 and told.stderr.startswith("error: --vae: ")
    assert "than or equal to 1" in CliRunner().invoke(app, [*arguments, "--num", "0"]).stderr


def test_pictures_of_nobody_knows_what_have_a_psnr_alone() -> None:
    x = torch.zeros(3, 1, 8, 8)
    found = round_trip_figures(x, x + 0.2, Picture(channels=1, size=8), sampling_rate=None)
    assert found.keys() == {"psnr"}
    torch.testing.assert_close(found["psnr"], torch.full((3,), 20.0))


def test_a_flat_electrode_beside_others_changes_no_figure_of_the_signals() -> None:
    noise = torch.randn(2, 4, WINDOW, generator=torch.Generator().manual_seed(0)) * 60
    representation = REPRESENTATIONS["timeseries"].fit(iter([noise]), sampling_rate=RATE, window=WINDOW)
    before, after = rhythms().expand(1, 4, WINDOW).clone(), rhythms(alpha=5.0).expand(1, 4, WINDOW).clone()
    whole = round_trip_figures(*map(representation.to_tensor, (before, after)), representation, sampling_rate=RATE)
    before[:, 2], after[:, 2] = 0.0, noise[0, 0] / 60  # 1 µV where there was nothing
    found = round_trip_figures(*map(representation.to_tensor, (before, after)), representation, sampling_rate=RATE)
    for name in whole.keys() - {"psnr"}:
        torch.testing.assert_close(found[name], whole[name], atol=1e-4, rtol=1e-3)


def test_a_rhythm_that_no_amplifier_hears_has_no_error() -> None:
    found = figures("timeseries", rhythms(low_gamma=1e-3), rhythms(low_gamma=0.0))
    assert found["band_error_low_gamma"] < 0.01


def test_a_flat_signal_has_finite_figures() -> None:
    found = figures("timeseries", torch.zeros(1, WINDOW), rhythms())
    assert all(math.isfinite(value) for value in found.values()) and found["correlation"] == 0
