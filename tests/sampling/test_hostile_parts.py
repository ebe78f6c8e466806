"""Unfinished samples whose files lie: generated again, or one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from signal_diffusion.errors import UserError
from signal_diffusion.sampling.partial import KeptBatches, kept_settings
from signal_diffusion.training.metrics_file import read_rows

HEADER = {"evaluations": "2", "not_finite": ""}


@pytest.fixture
def parts(tmp_path: Path) -> KeptBatches:
    """Two parts of two rows each."""
    kept = KeptBatches(tmp_path, 4, 2)
    for rows in kept.ranges:
        kept.write(rows, {"x": torch.full((2, 3), float(rows.start))}, 2)
    return kept


def test_parts_are_put_together(parts: KeptBatches) -> None:
    whole, evaluations = parts.assembled()
    assert whole["x"][:, 0].tolist() == [0, 0, 2, 2] and evaluations == 4 and parts.missing() == []


@pytest.mark.parametrize(
    ("tensors", "header"),
    [
        ({"x": torch.zeros(2, 3)}, HEADER | {"evaluations": "x"}),
        ({"x": torch.zeros(2, 3)}, HEADER | {"not_finite": "1 x"}),
        ({"x": torch.zeros(2, 3)}, {"evaluations": "2"}),
        ({"x": torch.zeros(3, 3)}, HEADER),
        ({"x": torch.zeros(())}, HEADER),
        ({}, HEADER),
    ],
)
def test_a_part_that_is_not_as_it_was_written_is_generated_again(
    tensors: dict[str, torch.Tensor], header: dict[str, str], parts: KeptBatches, tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "part-00000002.safetensors", header)
    assert parts.missing() == [range(2, 4)]


def test_a_pipe_in_place_of_a_part_is_not_waited_for(parts: KeptBatches, tmp_path: Path) -> None:
    (tmp_path / "part-00000002.safetensors").unlink()
    os.mkfifo(tmp_path / "part-00000002.safetensors")
    assert parts.missing() == [range(2, 4)]


@pytest.mark.parametrize(
    "tensors", [{"y": torch.zeros(2, 3)}, {"x": torch.zeros(2, 1)}, {"x": torch.zeros(2, 3, dtype=torch.int32)}]
)
def test_parts_that_differ_are_one_line(tensors: dict[str, torch.Tensor], parts: KeptBatches, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "part-00000002.safetensors", HEADER)
    with pytest.raises(UserError, match="its parts have different tensors; remove the folder"):
        parts.assembled()


@pytest.mark.parametrize("text", ["[]", "[" * 200_000, "", "\udcff"])
def test_damaged_settings_are_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=r"settings.json: cannot be read .*; remove the folder") as caught:
        kept_settings(tmp_path, {"seed": 1})
    assert len(caught.value.lines) == 1


def test_damaged_rows_of_metrics_are_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, whole = tmp_path / "metrics.jsonl", '{"step": 4, "train/loss": 0.1}'
    damaged = ["[" * 99_999, "[1]", '{"step": 1e999}', '{"step": "4"}', '{"step": true}', '{"train/loss": 1}']
    damaged += ['{"step": 4, "train/loss": "x"}', '{"step": 4', "\udcff"]
    path.write_text("\n".join([*damaged, whole]), errors="surrogateescape")
    assert read_rows(path) == [{"step": 4, "train/loss": 0.1}]
    assert capsys.readouterr().err.splitlines() == ["warning: dropped a damaged row of metrics.jsonl"] * len(damaged)
