"""EMA snapshots are complete or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError


def write(parent: Path, step: int, origin: int = 0, text: str = "averages") -> Path:
    return checkpoints.write_snapshot(parent, step, origin, lambda path: path.write_text(text), size=8)


def test_snapshots_are_listed_by_step_and_others_files_are_not(tmp_path: Path) -> None:
    for step in (100, 20, 9):
        write(tmp_path, step)
    for name in ("step-07-since-0.safetensors", "step-3-since-5.safetensors", "notes.txt"):
        (tmp_path / "ema-snapshots" / name).touch()
    assert [each.step for each in checkpoints.list_snapshots(tmp_path)] == [9, 20, 100]


def test_a_failing_write_leaves_the_older_snapshot(tmp_path: Path) -> None:
    path = write(tmp_path, 5)

    def fail(unfinished: Path) -> None:
        unfinished.write_text("half")
        raise OSError(5, "Input/output error")

    with pytest.raises(UserError, match=r"cannot write the EMA snapshot: .*Input/output error; earlier ones") as caught:
        checkpoints.write_snapshot(tmp_path, 5, 0, fail, size=8)
    assert len(caught.value.lines) == 1
    assert path.read_text() == "averages" and list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_an_error_with_the_space_that_it_needs(small_disk: Path) -> None:
    with pytest.raises(UserError, match=r"the EMA snapshot: the disk is full \(needs 1.0 MiB, .*free some space and"):
        checkpoints.write_snapshot(small_disk, 5, 0, lambda path: path.write_bytes(bytes(2**20)), size=2**20)
    assert not list((small_disk / "ema-snapshots").iterdir())


def test_only_later_snapshots_are_removed(tmp_path: Path) -> None:
    for step in (5, 6, 7):
        write(tmp_path, step, origin=2)
    checkpoints.remove_later_snapshots(tmp_path, 6)
    assert [each.step for each in checkpoints.list_snapshots(tmp_path)] == [5, 6]
