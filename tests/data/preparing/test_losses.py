import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.losses import amplitude_that_keeps
from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.errors import UserError
from tests.data.preparing.options import OPTIONS
from tests.data.recordings.files import noise, write_fif


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five people whose amplitudes grow from 20 to 100 µV."""
    root = tmp_path_factory.mktemp("losses") / "lab"
    for number in range(1, 6):
        recording = noise(["Fz", "Cz", "Pz"], seconds=20.0, seed=number)
        recording.apply_function(partial(np.multiply, number), verbose="ERROR")
        write_fif(root / f"p{number}" / "x_raw.fif", recording)
    return root


def test_the_amplitude_that_keeps_nine_tenths():
    assert amplitude_that_keeps(np.arange(1, 11) + 0.5) == 10.0  # 9 of 10 are at most 9.5
    assert amplitude_that_keeps(np.full(7, 3.0)) == 3.0
    assert amplitude_that_keeps(np.zeros(0)) == 0.0


def test_lost_people_and_windows_are_told_with_the_remedy(lab: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        card = prepare([lab], tmp_path / "out", replace(OPTIONS, reject_above=200.0))
    lost = next(line for line in caplog.messages if "subjects have no window left" in line)
    assert lost.startswith("2 of 5 subjects have no window left: p4, p5; most of their windows are rejected as amp")
    told = next(line for line in caplog.messages if "%) are rejected as amplitude" in line)
    assert told.startswith(f"{card.rejected['amplitude']} of ")
    enough = told.split("--reject-above ")[1].split(",")[0]
    caplog.clear()
    kept = prepare([lab], tmp_path / "more", replace(OPTIONS, reject_above=float(enough)))
    total = sum(split["windows"] for split in kept.splits.values())
    assert 0.9 <= total / (total + kept.rejected["amplitude"]) < 1.0
    assert not [line for line in caplog.messages if "%) are rejected as" in line]


def test_auto_takes_the_amplitude_that_keeps_nine_tenths_with_any_number_of_workers(lab: Path, tmp_path: Path):
    auto = prepare([lab], tmp_path / "one", replace(OPTIONS, reject_above="auto"))
    limit = auto.preprocessing["reject_above"]
    assert "--reject-above auto" in auto.command
    fixed = prepare([lab], tmp_path / "fixed", replace(OPTIONS, reject_above=limit))
    assert fixed.files == auto.files and fixed.rejected == auto.rejected
    assert prepare([lab], tmp_path / "two", replace(OPTIONS, reject_above="auto", workers=2)) == auto


def test_reject_above_is_a_number_or_auto(lab: Path, tmp_path: Path):
    words = ["prepare", str(lab), "--output", str(tmp_path / "out"), "--channels", "Fz,Cz,Pz", "--window", "256"]
    result = CliRunner().invoke(app, [*words, "--reject-above", "auto"], catch_exceptions=False)
    assert result.exit_code == 0
    assert DatasetCard.load(tmp_path / "out").preprocessing["reject_above"] > 300
    with pytest.raises(UserError, match="reject_above: 'high' is no amplitude; expected µV, such as 500, or auto"):
        CliRunner().invoke(app, [*words, "--reject-above", "high"], catch_exceptions=False)
