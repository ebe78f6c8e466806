"""Copies of splits are written into the cache that is asked for, or into one that can be written."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import pytest

from signal_diffusion import paths
from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.paths import cache_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and other folders for temporary files."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    paths._warn_about_cache.cache_clear()
    return home


def test_nothing_is_written_under_home_if_a_cache_is_set(home: Path, synthetic_dataset: Path, tmp_path: Path) -> None:
    data = schema.Data(
        paths=schema.Paths(root=str(synthetic_dataset)), loading=schema.Loading(cache_dir=str(tmp_path / "cache"))
    )
    dataset = Dataset(data=data, root=synthetic_dataset, card=DatasetCard.load(synthetic_dataset))
    assert len(dataset.open("train")) == 228
    assert list(home.iterdir()) == []
    [copy] = (tmp_path / "cache").rglob("*.arrow")
    before = copy.stat().st_mtime_ns
    dataset.open("train")
    assert [path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.arrow")] == [before]


def test_a_killed_copy_is_made_again(home: Path, synthetic_dataset: Path) -> None:
    open_split(synthetic_dataset, "test")
    [copy] = home.rglob("*.arrow")
    copy.rename(copy.with_suffix(".partial"))
    assert len(open_split(synthetic_dataset, "test")) == 76


def test_a_private_cache_is_used_beside_one_that_cannot_be_written(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another user's folder: as root, everything can be written, so the folder is a file here."""
    (tmp_path / "signal-diffusion").write_text("")
    with caplog.at_level(logging.WARNING):
        folders = [cache_folder(str(tmp_path), "splits") for _ in range(3)]
    assert set(folders) == {tmp_path / f"signal-diffusion-{os.getuid()}" / folders[0].parent.name / "splits"}
    assert [record.message.startswith(f"{tmp_path}/signal-diffusion/") for record in caplog.records] == [True]


@pytest.mark.skipif(os.getuid() == 0, reason="root may write into every folder")
def test_a_folder_of_another_user_is_not_written(home: Path, tmp_path: Path) -> None:
    folder = cache_folder(str(tmp_path), "splits")
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    assert cache_folder(str(tmp_path), "splits") != folder
    assert cache_folder(str(tmp_path), "digests") == folder.with_name("digests")


@pytest.mark.parametrize("value", [None, "", "FILE"])
def test_a_home_that_is_not_set_or_cannot_be_written_is_replaced_by_temporary_files(
    value: str | None, home: Path, synthetic_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    if value == "FILE":
        monkeypatch.setenv("HOME", str(tmp_path / "file"))
    else:  # in a container, the user may have no entry in the list of passwords either

        def unknown() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", unknown)
    assert len(open_split(synthetic_dataset, "train")) == 228
    assert len(list((tmp_path / "temporary").rglob("*.arrow"))) == 1 and list(home.iterdir()) == []
    assert paths.without_folders("/data/x.parquet is cut") == "x.parquet is cut"


def test_without_any_folder_the_key_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"set data\.loading\.cache_dir to a folder of yours"):
        cache_folder(str(tmp_path / "file"))
