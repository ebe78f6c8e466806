"""Folders of images: what is read from them and their tables, and one-line errors for what cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from tests.data.foreign.folders import (
    SPLITS,
    opened,
    pixels,
    root_of,
    save,
    tensors_of,
    write_table,
)


def test_images_are_read_in_table_order_and_scaled_from_minus_one_to_one(folder: Path) -> None:
    root, card, _ = opened(paths=root_of(folder))
    assert card.shape == (1, 16, 16)
    expected = np.stack([pixels(number, 16, 16) for number in (2, 0, 1)]) / 127.5 - 1
    assert np.abs(tensors_of(root, card, "train")[:, 0].numpy() - expected).max() < 5e-4  # float16


def test_card_describes_columns_and_has_no_inverse(folder: Path) -> None:
    root, card, _ = opened(paths=root_of(folder), columns=schema.Columns(caption="text"))
    assert card.columns == {
        "label": {"kind": "categorical", "names": ["a", "b"]},
        "age": {"kind": "numeric", "mean": 40.0, "std": 10.0},
        "text": {"kind": "text"},
        "site": {"kind": "numeric", "mean": 2.0, "std": pytest.approx(0.8165, abs=1e-4)},
    }
    assert (card.representation["layout"], card.representation["inverse"]) == ("picture", "none")
    assert (card.sampling_rate, card.window, card.channels, card.unit) == (None, None, (), None)
    assert card.splits["train"]["marginals"]["label"]["b"] == {"examples": 2, "share": 0.6667, "balanced": 0.5}
    assert open_split(root, "train")["age"][:] == [30.0, None, 50.0]
    assert open_split(root, "train")["text"][:] == ["a grey one", None, "another"]
    with pytest.raises(UserError, match="its samples cannot be turned into signals"):
        representation_of(card).to_signal(torch.zeros(1, 16, 16))
    assert DatasetCard.load(root) == card


def test_subfolders_are_labels_and_val_is_validation(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number, label in enumerate(("10", "9", "9")):
            save(tmp_path / "root" / split / label / f"{number}.jpg", pixels(number, 8, 8, 3))
    root, card, _ = opened(paths=root_of(tmp_path / "root"))
    assert card.shape == (3, 8, 8)
    assert list(card.splits) == list(SPLITS)
    assert card.columns == {"label": {"kind": "categorical", "names": ["9", "10"]}}
    assert open_split(root, "validation")["label"][:] == [1, 0, 0]


def test_a_table_next_to_the_folders_lists_the_images_of_all_splits(tmp_path: Path) -> None:
    names = [f"{split}/{number}.png" for split in SPLITS for number in range(2)]
    for name in names:
        save(tmp_path / "root" / name, pixels(0, 8, 8))
    write_table(tmp_path / "root" / "metadata.csv", [{"file_name": name, "label": name} for name in names])
    root, _, _ = opened(paths=root_of(tmp_path / "root"))
    labels = open_split(root, "validation")
    assert labels.features["label"].int2str(labels["label"][:]) == names[2:]


def damaged(folder: Path, what: str) -> dict[str, Any]:
    """Damage the folder; returns the options to open it with."""
    train = folder / "train"
    table = train / "metadata.csv"
    if what == "no images":
        for path in train.iterdir():
            path.unlink()
    elif what == "no training split":
        train.rename(folder / "exercise")
    elif what == "truncated":
        (train / "1.png").write_bytes((train / "1.png").read_bytes()[:100])
    elif what == "text":
        (train / "1.png").write_text("not an image")
    elif what == "missing":
        (train / "1.png").unlink()
    elif what == "no file_name":
        table.write_text(table.read_text().replace("file_name", "filename"))
    elif what == "sizes":
        save(train / "1.png", pixels(0, 16, 20))
    elif what == "colour":
        save(train / "1.png", pixels(0, 16, 16, 3))
        return {"representation": "db-only"}
    elif what == "age":
        table.write_text(table.read_text().replace("50", "fifty"))
    elif what == "float":
        Image.fromarray(np.zeros((16, 16), np.float32)).save(train / "1.tiff")
        table.write_text(table.read_text().replace("1.png", "1.tiff"))
    elif what == "signals":
        return {"representation": "timeseries", "sampling_rate": 100.0}
    return {}


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("no images", "train: no images found"),
        ("no training split", "no training split, found only validation"),
        ("truncated", "1.png: cannot be read as an image"),
        ("text", "1.png: cannot be read as an image (unknown format)"),
        ("missing", "metadata.csv: line 4 names '1.png', which does not exist"),
        ("no file_name", "metadata.csv: no column file_name (names of the images), only filename, label"),
        ("sizes", "[data] image_size: set it, in pixels"),
        ("colour", "1.png: has three channels, but [data] representation = 'db-only' has one"),
        ("age", "column 'age': 1 of 6 values are not ages in years: 'fifty' (line 4 of train/metadata.csv)"),
        ("float", "1.tiff: unsupported image mode 'F'"),
        ("signals", "a folder of images has no signals"),
    ],
)
def test_bad_folder_is_a_one_line_error_and_leaves_nothing_in_the_cache(
    what: str, complaint: str, folder: Path, own_cache: Path
) -> None:
    data = damaged(folder, what)
    with pytest.raises(UserError) as caught:
        opened(paths=root_of(folder), **data)
    assert complaint in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not list(own_cache.rglob("*.json")) and not list(own_cache.rglob("*.parquet"))


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("", "metadata.csv: no column file_name (names of the images), only nothing"),
        ("file_name,image\n0.png,x\n", "train: the table has a column 'image', which is the name of the images"),
        ("file_name,a,a\n0.png,1,2\n", "metadata.csv: line 1 has two columns 'a'"),
        ("file_name,a\n0.png,1\n1.png\n", "metadata.csv: line 3 has 1 cells; expected 2"),
        ("file_name,a\n\n0.png,1,2\n", "metadata.csv: line 3 has 3 cells; expected 2"),
        ("file_name\n0.png\n./0.png\n", "metadata.csv: line 3 names './0.png' a second time"),
        ("file_name\n../validation/0.png\n", "metadata.csv: line 2 names '../validation/0.png'; expected an image in"),
        ("file_name\n/etc/hosts\n", "metadata.csv: line 2 names '/etc/hosts'; expected an image in"),
    ],
)
def test_bad_table_is_a_one_line_error(table: str, complaint: str, folder: Path) -> None:
    (folder / "train" / "metadata.csv").write_text(table)
    with pytest.raises(UserError) as caught:
        opened(paths=root_of(folder))
    assert complaint in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_broken_link_is_a_one_line_error_and_a_folder_named_like_an_image_is_ignored(tmp_path: Path) -> None:
    for split in SPLITS:
        save(tmp_path / "root" / split / "0.png", pixels(0, 8, 8))
    (tmp_path / "root" / "train" / "x.png").mkdir()
    _, card, _ = opened(paths=root_of(tmp_path / "root"))
    assert card.splits["train"]["examples"] == 1
    (tmp_path / "root" / "train" / "1.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"train/1\.png: broken link to gone\.png"):
        opened(paths=root_of(tmp_path / "root"))


def test_an_image_that_is_a_pipe_is_named_counted_and_never_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in SPLITS:
        save(tmp_path / "root" / split / "a" / "0.png", pixels(0, 8, 8))
    os.mkfifo(tmp_path / "root" / "train" / "a" / "1.png")
    os.mkfifo(tmp_path / "root" / "train" / "notes")
    _, card, _ = opened(paths=root_of(tmp_path / "root"))
    assert card.splits["train"]["examples"] == 1
    train = tmp_path / "root" / "train"
    line = f"{train}: ignored 1 images that are no files but pipes or devices: a/1.png"
    assert [record.getMessage() for record in caplog.records if "pipes" in record.message] == [line]
