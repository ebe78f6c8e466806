"""docs/reliability.md has a row for each fault that is injected, and all were survived."""

from pathlib import Path

import pytest

from tests.chaos.records import FAULTS

pytestmark = pytest.mark.chaos


def test_the_table_has_all_faults_and_all_were_survived() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [line[0].removeprefix("| ") for line in lines] == sorted(FAULTS, key=str.lower)
    assert all(int(injected) == int(survived) > 0 for _, injected, survived, *_ in lines)
