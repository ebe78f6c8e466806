"""On a disk that is really full, the error names the file, what was written, what it needs and what is free."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch

from signal_diffusion import checkpoints
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.disks import FullDiskError, size_of, writing
from tests.small_disk import SIZE

VALUES = np.random.default_rng(0).normal(size=20_000)  # 156 KiB
TENSORS = {"x": torch.from_numpy(VALUES)}
TABLE = pa.table({"x": VALUES})


WRITERS: dict[str, Callable[[Path], object]] = {
    "np.save": lambda path: np.save(path.with_suffix(".npy"), VALUES),
    "np.savez": lambda path: np.savez(path, x=VALUES),
    "torch": partial(torch.save, TENSORS),
    "safetensors": partial(safetensors.torch.save_file, TENSORS),
    "parquet": lambda path: pq.write_table(TABLE, path),
    "text": lambda path: path.write_text("x" * VALUES.nbytes),
}


@pytest.mark.parametrize("library", WRITERS)
def test_the_error_of_every_library_is_understood(library: str, small_disk: Path) -> None:
    path = small_disk / "file"
    with pytest.raises(FullDiskError) as caught, writing(path, "samples", needs=VALUES.nbytes):
        WRITERS[library](path)
    [line] = caught.value.lines
    assert line.startswith(f"{path}: cannot write samples: the disk is full (needs 156.2 KiB, ")
    assert line.endswith(" free); free some space")


def test_the_free_space_of_a_checkpoint_is_counted_without_its_own_files(small_disk: Path) -> None:
    checkpoints.write_checkpoint(small_disk, 1, {"model.safetensors": lambda path: path.write_bytes(bytes(8000))})
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    with pytest.raises(FullDiskError, match=r"checkpoint-2: cannot write the checkpoint: the disk is full") as caught:
        checkpoints.write_checkpoint(small_disk, 2, {"optimizer.pt": partial(torch.save, TENSORS)})
    assert f"(needs 156.2 KiB, {free / 1024:.1f} KiB free); earlier ones are untouched" in str(caught.value)
    assert [path.name for path in small_disk.iterdir()] == ["checkpoint-1"]


def test_a_folder_that_does_not_fit_is_not_there_and_the_old_one_is(small_disk: Path) -> None:
    with atomic_folder(small_disk / "out") as folder:
        (folder / "file").write_text("old")
    expected = r"out: cannot write the dataset: the disk is full \(needs more than the .* that are free\)"
    with pytest.raises(FullDiskError, match=expected), atomic_folder(small_disk / "out", "the dataset") as folder:
        (folder / "file").write_text("x" * SIZE)
    assert (small_disk / "out" / "file").read_text() == "old" and len(list(small_disk.iterdir())) == 1


def test_a_used_up_quota_is_named_and_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FullDiskError, match="samples: the quota is used up "), writing(tmp_path / "x", "samples"):
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    for error in (PermissionError(errno.EACCES, "no"), RuntimeError("shapes differ")):
        with pytest.raises(type(error)), writing(tmp_path / "x", "samples"):
            raise error


def test_sizes_of_nested_tensors_are_added() -> None:
    state = {"a": torch.zeros(3), "b": [torch.zeros(2, dtype=torch.float64), 1.0, {"c": np.zeros(1)}], "d": "text"}
    assert size_of({"file": partial(torch.save, state)}) == 12 + 16 + 8
