"""`evaluate RUN` generates windows like the real ones and judges them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.evaluation import reading
from signal_diffusion.training.diffusion import train


@pytest.fixture
def run(experiment_file: Path, tmp_path: Path) -> Path:
    train(experiment_file, overrides=("training.max_steps=1",), output_dir=tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_judged_by_its_test_split_also_if_only_a_part_of_it_is_read(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reading.read_dataset.__kwdefaults__, "most", 2)
    output = tmp_path / "report"
    arguments = ["evaluate", str(run), "--num", "12", "--metrics", "lsd,unusable", "--output", str(output)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)

    assert result.exit_code == 0, result.output
    assert ":test, 2 of " in result.output
    report = json.loads((output / "report.json").read_text("utf-8"))
    assert report["metrics"]["lsd"]["value"] > 0
