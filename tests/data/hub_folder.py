"""A dataset in a folder in the Hub's layout, and what stands in for downloads and reads of it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic

__all__ = ["Requests", "dataset_on_hub"]

COMMIT = "1f" * 20


class Requests(DirFileSystem):
    """A file system that counts how often each file is opened."""

    opened: ClassVar[Counter[str]] = Counter()

    def open(self, path: str, *arguments: Any, **options: Any) -> Any:
        Requests.opened[path.rpartition("/")[2]] += 1
        return super().open(path, *arguments, **options)


def dataset_on_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make me/eeg of 228 training examples, in row groups of 32; what is downloaded comes into snapshots/."""
    monkeypatch.setattr("signal_diffusion.data.writing_splits._BYTES_PER_GROUP", 32 * 2 * 64 * 64)
    monkeypatch.setattr("signal_diffusion.data.writing_splits._GROUPS_PER_FILE", 3)
    there, here = folder / "hub" / "datasets" / f"me/eeg@{COMMIT}", folder / "snapshots" / COMMIT
    prepare_synthetic(there, "db-only", SyntheticOptions(num_subjects=5, num_windows=2))

    def download(name: str, *, ignore_patterns: list[str] | None, **_: Any) -> str:
        ignored = shutil.ignore_patterns("train") if ignore_patterns else None
        shutil.copytree(there, here, ignore=ignored, dirs_exist_ok=True)
        return str(here)

    files = Requests(str(folder / "hub"), LocalFileSystem())
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub, "HfFileSystem", lambda: files)
    Requests.opened.clear()
    return there
