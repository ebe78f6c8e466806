"""Checkpoints are complete or absent."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError
from signal_diffusion.training.state import PROGRESS, Progress


def write(parent: Path, step: int, text: str = "weights") -> Path:
    return checkpoints.write_checkpoint(parent, step, {"a.txt": lambda path: path.write_text(text)})


def test_latest_is_the_largest_step_not_the_last_name(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        write(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert checkpoints.find_checkpoint(tmp_path, "latest", print).name == "checkpoint-10"


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (write(tmp_path, 2) / "a.txt").write_text("weight")
    warnings: list[str] = []
    assert checkpoints.find_checkpoint(tmp_path, "latest", warnings.append).name == "checkpoint-1"
    assert "checkpoint-2" in warnings[0] and "truncated or changed" in warnings[0]


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "no manifest"])
def test_the_error_about_a_damaged_checkpoint_names_it(tmp_path: Path, damage: str) -> None:
    checkpoint = write(tmp_path, 5)
    match damage:
        case "truncate":
            (checkpoint / "a.txt").write_text("weig")
        case "change":
            (checkpoint / "a.txt").write_text("weightz")
        case "remove":
            (checkpoint / "a.txt").unlink()
        case _:
            (checkpoint / checkpoints.MANIFEST).unlink()
    with pytest.raises(UserError) as caught:
        checkpoints.find_checkpoint(tmp_path, str(checkpoint), print)
    assert len(caught.value.lines) == 1 and str(checkpoint) in str(caught.value)


def test_the_error_about_a_missing_checkpoint_lists_the_existing_ones(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with pytest.raises(UserError, match="no such checkpoint; there are checkpoint-5"):
        checkpoints.find_checkpoint(tmp_path, str(tmp_path / "checkpoint-6"), print)


def test_a_bare_name_is_in_the_run_and_the_error_about_a_run_lists_its_checkpoints(tmp_path: Path) -> None:
    checkpoint = write(tmp_path, 5)
    assert checkpoints.find_checkpoint(tmp_path, "checkpoint-5", print) == checkpoint
    with pytest.raises(UserError, match="checkpoint-6: no such checkpoint; there are checkpoint-5"):
        checkpoints.find_checkpoint(tmp_path, "checkpoint-6", print)
    with pytest.raises(
        UserError, match="a run, not a checkpoint; there are checkpoint-5; use one of these, or 'latest'"
    ):
        checkpoints.find_checkpoint(tmp_path, str(tmp_path), print)


def test_files_of_a_newer_version_are_refused_in_one_line(tmp_path: Path) -> None:
    manifest = write(tmp_path, 5) / checkpoints.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 2}))
    with pytest.raises(UserError, match=r"manifest.json: has format 2, .* use a newer version"):
        checkpoints.verify(manifest.parent)
    (tmp_path / PROGRESS).write_text(json.dumps({"step": 5, "phase": 1}))
    with pytest.raises(UserError, match=r"progress.json: unknown phase, written by a newer version"):
        Progress.of(tmp_path)


def test_a_checkpoint_too_large_for_the_disk_is_an_error_and_leaves_no_files(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    weights = {"weight": torch.zeros(2**16)}
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**12, limits[1]))
        with pytest.raises(UserError, match=r"checkpoint-5: cannot write the checkpoint: .*[Ff]ile too large"):
            checkpoints.write_checkpoint(tmp_path, 5, {"a": lambda path: save_file(weights, path)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_earlier_checkpoints_unchanged(tmp_path: Path) -> None:
    write(tmp_path, 1)

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(UserError, match="No space left"):
        checkpoints.write_checkpoint(tmp_path, 2, {"a.txt": fail})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    checkpoints.verify(tmp_path / "checkpoint-1")


def test_a_checkpoint_whose_writing_was_killed_is_not_listed(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def killed(path: Path) -> None:
        path.write_text("half")
        raise Killed

    with pytest.raises(Killed):
        checkpoints.write_checkpoint(tmp_path, 2, {"a.txt": killed})
    assert checkpoints.list_checkpoints(tmp_path) == []
    assert list(tmp_path.iterdir()) != []
    checkpoints.remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prune_keeps_the_newest_and_the_best_checkpoints(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        write(tmp_path, step)
    checkpoints.prune(tmp_path, 2, newest=5, keep=1)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == [
        "checkpoint-1",
        "checkpoint-4",
        "checkpoint-5",
    ]
    checkpoints.prune(tmp_path, None, newest=5, keep=None)
    assert len(checkpoints.list_checkpoints(tmp_path)) == 3


def test_prune_never_removes_the_checkpoint_just_written(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        write(tmp_path, step)
    write(tmp_path, 25)
    checkpoints.prune(tmp_path, 2, newest=25, keep=None)
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == ["checkpoint-20", "checkpoint-25"]
