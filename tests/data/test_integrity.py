"""The files of a dataset are those that its card describes, and no others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from signal_diffusion.data import integrity
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import file_digests, open_split
from signal_diffusion.data.integrity import changed_files, digest_of
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.errors import UserError

FILE = "train/00000.parquet"


@pytest.fixture
def root(synthetic_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_dataset, tmp_path / "dataset"))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["t[1]", "t*", "t?", "t{1,2}", "**", "t::x", "file:t"])
def test_a_folder_whose_name_is_a_pattern_is_read_from_its_own_files(
    name: str, synthetic_dataset: Path, tmp_path: Path
) -> None:
    for sibling in ("t1", "t", "x"):
        prepare_sibling(tmp_path / sibling)
    shutil.copytree(synthetic_dataset, tmp_path / name)

    assert len(open_split(tmp_path / name, "train")) == 228
    assert open_split(tmp_path / name, "train")["subject"] == open_split(synthetic_dataset, "train")["subject"]


def prepare_sibling(root: Path) -> None:
    prepare_synthetic(root, "db-only", SyntheticOptions(num_subjects=1, num_windows=1, splits=(1, 0, 0)))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def leave_out_rows(path: Path) -> None:
    pq.write_table(pq.read_table(path)[:-19], path)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (cut, "00000.parquet: a file is damaged or cut"),
        (leave_out_rows, "train: its files have 209 examples, but .* says 228"),
    ],
)
def test_a_cut_file_is_one_line_at_every_start(root: Path, damage: Callable[[Path], None], expected: str) -> None:
    damage(root / FILE)
    with pytest.raises(UserError, match=expected) as caught:
        open_split(root, "train")
    assert len(caught.value.lines) == 1


def test_a_flipped_byte_is_found_by_its_hash_in_its_own_split(root: Path) -> None:
    card = DatasetCard.load(root)
    assert changed_files(root, card, card.splits) == {}
    flip_a_byte(root / FILE)
    assert changed_files(root, card, ["train"]) == {FILE: digest_of(root / FILE)} == file_digests(root, "train")
    assert changed_files(root, card, ["validation"]) == {}


def test_a_file_is_hashed_once_per_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / FILE
    first = digest_of(path)
    with monkeypatch.context() as patch:
        patch.delattr(integrity.hashlib, "file_digest")
        assert digest_of(path) == first
    status = path.stat()
    flip_a_byte(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert digest_of(path) != first


def test_a_changed_file_whose_times_were_set_back_is_hashed_again(root: Path) -> None:
    path = root / FILE
    before, status = digest_of(path), path.stat()
    flip_a_byte(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    now = path.stat()
    same = ("st_size", "st_mtime_ns", "st_ino")
    assert [getattr(now, name) for name in same] == [getattr(status, name) for name in same]
    assert digest_of(path) != before
    assert list(changed_files(root, DatasetCard.load(root), ["train"])) == [FILE]


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter([("a", 1, 1, 1), ("a", 1, 2, 1)])
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "file_version", lambda path: next(versions))
        digest_of(root / FILE)
        patch.setattr(integrity, "file_version", lambda path: ("a", 1, 1, 1))
        flip_a_byte(root / FILE)
        assert digest_of(root / FILE) != DatasetCard.load(root).files[FILE]
