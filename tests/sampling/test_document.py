"""docs/sampling.md: its tables are valid in an experiment file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from signal_diffusion.experiment.loading import load_experiment

DOCUMENT = Path(__file__).parents[2] / "docs" / "sampling.md"
INDENTED = re.findall(r"(?:^    .*\n)+", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
TABLES = [block for block in INDENTED if re.match(r" {4}(\[|\w+ = )", block)]


@pytest.mark.parametrize("block", TABLES)
def test_every_table_in_the_document_is_valid(block: str, experiment_file: Path, tmp_path: Path) -> None:
    assert len(TABLES) == 4
    without, _, _ = experiment_file.read_text().partition("[generation.sampling]")
    headed = block if block.lstrip().startswith("[") else f"[generation.sampling]\nguidance_scale = 2.0\n{block}"
    (tmp_path / "experiment.toml").write_text(without + headed)

    assert load_experiment(tmp_path / "experiment.toml").generation != load_experiment(experiment_file).generation
