"""The benchmark measures what it says, on recordings of a minute."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.benchmark import STEPS, preparation_steps, write_recordings


@pytest.mark.slow
def test_the_benchmark_reports_speed_and_memory():
    result = CliRunner().invoke(app, ["benchmark", "data", "--minutes", "1", "--workers", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(re.findall(r"preparing 4 × 1 min as db-(only|iq), 1 worker\(s\): \d+ × real time", result.output)) == 2
    assert len(re.findall(r"loading 64×64×3, .*: [\d,]+ examples/s", result.output)) == 2
    assert len(re.findall(r"peak memory, .*: \d+ MiB|not measured", result.output)) in (1, 3)


def test_each_preparation_step_is_found_in_the_profile(tmp_path: Path):
    write_recordings(tmp_path / "in", 1, 1)
    steps = preparation_steps(tmp_path / "in", tmp_path / "out")
    assert list(steps) == [*STEPS, "everything else"]
    assert all(seconds > 0 for seconds in steps.values())
