"""Whatever is in an experiment file, reading it ends with an experiment or with lines that say what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.config import mutations


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(mutations.mutated_files())
def test_a_file_with_mistakes_is_read_or_refused_line_by_line(file: tuple[str, bytes]) -> None:
    mutations.check(*file, thoroughly=False)


@pytest.mark.slow
def test_five_thousand_files_with_mistakes_are_checked_in_4_gib() -> None:
    command = [sys.executable, "-m", mutations.__name__, "5000"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False)
    assert result.returncode == 0, result.stderr[-3000:]
