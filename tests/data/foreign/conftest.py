"""A cache of its own for each test, and a folder of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.foreign.folders import (
    SPLITS,
    pixels,
    save,
    write_table,
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three grey images of 16 × 16 in each split, and a table with all kinds of columns."""
    root = tmp_path / "pictures"
    for split in SPLITS:
        for number in range(3):
            save(root / split / f"{number}.png", pixels(number, 16, 16))
        rows = [
            {"file_name": f"{number}.png", "label": label, "age": age, "text": text, "site": site}
            for number, label, age, text, site in (
                (2, "b", "30", "a grey one", "1"),
                (0, "a", "n/a", "", "2"),
                (1, "b", "50", "another", "3"),
            )
        ]
        write_table(root / split / "metadata.csv", rows)
    return root
