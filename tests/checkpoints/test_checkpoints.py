"""Checkpoints are complete or absent."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError
from signal_diffusion.training.state import PROGRESS, Progress


def write(parent: Path, step: int, text: str = "weights") -> Path:
    return checkpoints.write_checkpoint(parent, step, {"model.safetensors": lambda path: path.write_text(text)})


def test_latest_is_the_largest_step_not_the_last_name(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        write(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    assert checkpoints.find_checkpoint(tmp_path, "latest", print).name == "checkpoint-10"


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (write(tmp_path, 2) / "model.safetensors").write_text("weight")
    warnings: list[str] = []
    assert checkpoints.find_checkpoint(tmp_path, "latest", warnings.append).name == "checkpoint-1"
    assert "checkpoint-2" in warnings[0] and "truncated or changed" in warnings[0]


@pytest.mark.parametrize("damage", ["truncate", "change", "remove", "no manifest"])
def test_the_error_about_a_damaged_checkpoint_names_it(tmp_path: Path, damage: str) -> None:
    checkpoint = write(tmp_path, 5)
    match damage:
        case "truncate":
            (checkpoint / "model.safetensors").write_text("weig")
        case "change":
            (checkpoint / "model.safetensors").write_text("weightz")
        case "remove":
            (checkpoint / "model.safetensors").unlink()
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


def test_a_checkpoint_of_a_newer_version_is_never_removed(tmp_path: Path) -> None:
    write(tmp_path, 1)
    manifest = write(tmp_path, 2, "of a newer version") / checkpoints.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": checkpoints.FORMAT + 1}))
    assert checkpoints.find_checkpoint(tmp_path, "latest", print).name == "checkpoint-1"
    assert checkpoints.remove_later(tmp_path, 1) == []
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-2"]
    write(tmp_path, 2)
    checkpoints.prune(tmp_path, 1, newest=2, keep=())
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-2", "kept-checkpoint-2"}
    assert (tmp_path / "kept-checkpoint-2" / "model.safetensors").read_text() == "of a newer version"


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

    with pytest.raises(UserError, match="the disk is full"):
        checkpoints.write_checkpoint(tmp_path, 2, {"model.safetensors": fail})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    checkpoints.verify(tmp_path / "checkpoint-1")


def test_a_checkpoint_whose_writing_was_killed_is_not_listed(tmp_path: Path) -> None:
    unfinished = tmp_path / ".unfinished-checkpoint-2"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_text("half")
    assert checkpoints.list_checkpoints(tmp_path) == []
    checkpoints.remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_prune_keeps_the_newest_and_the_best_checkpoints(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        write(tmp_path, step)
    checkpoints.prune(tmp_path, 2, newest=5, keep=[1])
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == [
        "checkpoint-1",
        "checkpoint-4",
        "checkpoint-5",
    ]
    checkpoints.prune(tmp_path, None, newest=5, keep=[])
    assert len(checkpoints.list_checkpoints(tmp_path)) == 3


def test_prune_never_removes_the_checkpoint_just_written(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        write(tmp_path, step)
    write(tmp_path, 25)
    checkpoints.prune(tmp_path, 2, newest=25, keep=[])
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == ["checkpoint-20", "checkpoint-25"]


def renamed(parent: Path) -> Path:
    return write(parent, 3).rename(parent / "checkpoint-20")


def unlisted(parent: Path) -> Path:
    (write(parent, 20) / "ema.safetensors").write_text("averages of another run")
    return parent / "checkpoint-20"


def without_weights(parent: Path) -> Path:
    folder = parent / "checkpoint-20"
    folder.mkdir()
    (folder / "progress.json").write_text("{}")
    checkpoints.write_manifest(folder, 20, ["progress.json"])
    return folder


def empty(parent: Path) -> Path:
    (parent / "checkpoint-20").mkdir()
    return parent / "checkpoint-20"


def dangling(parent: Path) -> Path:
    (parent / "checkpoint-20").symlink_to(parent / "nowhere")
    return parent / "checkpoint-20"


def superscript(parent: Path) -> Path:
    return write(parent, 3).rename(parent / "checkpoint-²")


def padded(parent: Path) -> Path:
    return write(parent, 20).rename(parent / "checkpoint-020")


def a_file(parent: Path) -> Path:
    (parent / "checkpoint-20").write_text("notes")
    return parent / "checkpoint-20"


ODD = [renamed, unlisted, without_weights, empty, dangling, superscript, padded, a_file]


@pytest.mark.parametrize("make", ODD)
def test_latest_names_what_is_no_good_checkpoint_and_takes_the_one_before(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    odd, good = make(tmp_path), write(tmp_path, 5)
    warnings: list[str] = []
    assert checkpoints.find_checkpoint(tmp_path, "latest", warnings.append) == good
    assert len(warnings) == 1 and warnings[0].startswith(str(odd))


@pytest.mark.parametrize("make", [make for make in ODD if make not in (unlisted, without_weights)])
def test_what_a_user_made_is_never_removed_even_if_a_checkpoint_needs_its_name(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    odd = make(tmp_path)
    contents = sorted(path.name for path in odd.iterdir()) if odd.is_dir() else []
    write(tmp_path, 5)
    checkpoints.remove_later(tmp_path, 1)
    assert os.path.lexists(odd)
    for _ in range(2):
        write(tmp_path, 20)
        checkpoints.prune(tmp_path, 1, newest=20, keep=[])
    kept = tmp_path / f"kept-{odd.name}"
    kept = kept if os.path.lexists(kept) else odd
    assert (sorted(path.name for path in kept.iterdir()) if kept.is_dir() else []) == contents
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["checkpoint-20", kept.name])


def test_latest_passes_over_complete_checkpoints_of_another_run(tmp_path: Path) -> None:
    for step, text in ((5, "ours"), (10, "ours"), (15, "theirs"), (20, "theirs")):
        write(tmp_path, step, text)

    def check(checkpoint: Path) -> None:
        if (checkpoint / checkpoints.WEIGHTS).read_text() != "ours":
            raise UserError(f"{checkpoint}: of another run")

    warnings: list[str] = []
    assert checkpoints.find_checkpoint(tmp_path, "latest", warnings.append, check).name == "checkpoint-10"
    assert [line.split(":")[0][-2:] for line in warnings] == ["20", "15"]
    assert len(checkpoints.set_aside(tmp_path, check)) == 2
    assert [path.name for path in checkpoints.list_checkpoints(tmp_path)] == ["checkpoint-5", "checkpoint-10"]
    assert (tmp_path / "kept-checkpoint-20").is_dir() and (tmp_path / "kept-checkpoint-15").is_dir()
