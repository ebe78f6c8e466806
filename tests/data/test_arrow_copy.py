"""Copies of splits are written into the cache that is asked for, or into one that can be written."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import filelock
import pytest
from PIL import Image

from signal_diffusion import paths
from signal_diffusion.config import schema
from signal_diffusion.data import integrity
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.integrity import digest_of
from signal_diffusion.data.preparing import prepare as preparing
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import Dataset, dataset_of
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


def refuse_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `folder` that of another user, in which nothing can be written and locked; root may write everywhere."""
    allowed = os.access

    def access(path: Path, mode: int) -> bool:
        return allowed(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(folder))

    monkeypatch.setattr(os, "access", access)


def test_what_another_user_has_cached_is_read(
    home: Path,
    tmp_path: Path,
    synthetic_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path, before = (
        synthetic_dataset / "train" / "00000.parquet",
        digest_of(synthetic_dataset / "train" / "00000.parquet", str(tmp_path)),
    )
    open_split(synthetic_dataset, "train", cache_dir=str(tmp_path))

    refuse_writing(tmp_path / "signal-diffusion", monkeypatch)
    monkeypatch.setattr(filelock, "FileLock", None)  # a lock is a file that is written
    monkeypatch.setattr(integrity, "sha256_of", None)
    assert len(open_split(synthetic_dataset, "train", cache_dir=str(tmp_path))) == 228
    assert digest_of(path, str(tmp_path)) == before
    assert caplog.messages == []


def test_what_another_user_has_not_cached_is_cached_privately(
    home: Path,
    tmp_path: Path,
    synthetic_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "signal-diffusion").mkdir()
    refuse_writing(tmp_path / "signal-diffusion", monkeypatch)
    assert len(open_split(synthetic_dataset, "train", cache_dir=str(tmp_path))) == 228
    [copy] = tmp_path.rglob("*.arrow")
    assert copy.is_relative_to(tmp_path / f"signal-diffusion-{os.getuid()}")
    assert len(caplog.messages) == 1 and "cannot be written: caching in" in caplog.text


def test_built_in_and_converted_datasets_of_another_user_are_read(
    home: Path, tmp_path: Path, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images" / "train" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "images" / "train" / "cat" / "one.png")
    loading = schema.Loading(cache_dir=str(tmp_path))
    tables = [
        schema.Data(source="synthetic", loading=loading),
        schema.Data(
            paths=schema.Paths(root=str(tmp_path / "images")), representation="image", image_size=8, loading=loading
        ),
    ]
    monkeypatch.setattr(preparing, "prepare_synthetic", lambda root, name: shutil.copytree(synthetic_dataset, root))
    made = [dataset_of(data).root for data in tables]

    refuse_writing(tmp_path / "signal-diffusion", monkeypatch)
    monkeypatch.setattr(filelock, "FileLock", None)
    assert [dataset_of(data).root for data in tables] == made


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
