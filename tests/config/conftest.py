"""Small datasets of images, as files of older layouts have them."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZES = {"train": 40, "validation": 10}
LABELS = ("rest", "left", "right", "feet", "tongue")


def write_images(root: Path, mode: str) -> None:
    """Write a dataset of 16 × 16 images with five labels and a caption each."""
    rng = np.random.default_rng(0)
    for split, count in SIZES.items():
        (root / split).mkdir(parents=True)
        rows = [["file_name", "label", "description"]]
        for number in range(count):
            shape = (16, 16) if mode == "L" else (16, 16, 3)
            Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8), mode).save(root / split / f"{number}.png")
            label = LABELS[number % 5]
            rows.append([f"{number}.png", label, f"an eeg of {label}"])
        with (root / split / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of the module, where its datasets are converted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def spectrograms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "spectrograms"
    write_images(root, "L")
    return root


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two splits of colour images, each with a folder per class."""
    root, rng = tmp_path_factory.mktemp("data") / "colours", np.random.default_rng(0)
    for split, count in SIZES.items():
        for label in ("cat", "dog"):
            (root / split / label).mkdir(parents=True)
            for number in range(count // 2):
                image = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(image).save(root / split / label / f"{number}.png")
    return root
