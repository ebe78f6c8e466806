"""`benchmark data` measures what it says, on recordings of a minute."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_diffusion.benchmarks.preparation import STEPS, preparation_steps, write_recordings
from signal_diffusion.cli import app


@pytest.mark.slow
def test_the_benchmark_reports_speed_and_memory():
    options = ["--minutes", "1", "--workers", "1", "--rounds", "1", "--json"]
    result = CliRunner().invoke(app, ["benchmark", "data", *options], catch_exceptions=False)
    assert result.exit_code == 0
    rows = {(row["case"], row["variant"]): row["figures"] for row in json.loads(result.stdout)["rows"]}
    assert rows["preparing 4 recordings of 1 min", "db-iq, 1 worker(s)"].keys() == {"times_real_time"}
    shares = [figures["share"] for (case, _), figures in rows.items() if case.startswith("preparing db-only")]
    assert sum(shares) == pytest.approx(1)
    assert rows["loading 3 × 64 × 64, batches of 64, on cpu", "memory-mapped"]["examples_per_second"] > 0
    peaks = [figures["peak_bytes"] for figures in rows.values() if set(figures) == {"peak_bytes"}]
    assert len(peaks) == 3
    assert min(peaks) > 2**20


def test_each_preparation_step_is_found_in_the_profile(tmp_path: Path):
    write_recordings(tmp_path / "in", 1, 1)
    steps = preparation_steps(tmp_path / "in", tmp_path / "out")
    assert list(steps) == [*STEPS, "everything else"]
    assert all(seconds > 0 for seconds in steps.values())
