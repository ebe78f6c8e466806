"""Parquet files: what is read from them, and one-line errors for what cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from signal_diffusion.config import schema
from signal_diffusion.data.foreign.parquet_rows import parquet_rows
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.experiment.dataset import Dataset
from tests.data.foreign.folders import (
    SPLITS,
    opened,
    pixels,
    png,
    root_of,
    tensors_of,
    write_parquet,
)


@pytest.mark.parametrize("layout", ["{}.parquet", "{}/0.parquet", "dev/{}-00000-of-00001.parquet", "eeg_{}.parquet"])
def test_hugging_face_parquet_is_read_in_any_folder_layout(layout: str, tmp_path: Path) -> None:
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    columns = {"picture": [{"bytes": png(pixels(i, 8, 8)), "path": None} for i in range(70)], "label": [1, 0] * 35}
    for split in SPLITS:
        path = tmp_path / "root" / layout.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    root, card, data = opened(paths=root_of(tmp_path / "root"), columns=schema.Columns(image="picture"))
    assert card.columns == {"label": {"kind": "categorical", "names": ["no", "yes"]}}
    conditioning = schema.Conditioning(type="class")
    attributes = attributes_of(conditioning, card, data.columns)
    examples = Dataset(data=data, root=root, card=card).examples("train", attributes)
    x, values = examples[[69, 0]]
    assert np.abs(x[0, 0].numpy() - (pixels(69, 8, 8) / 127.5 - 1)).max() < 5e-4
    assert values["label"].tolist() == [0, 1]


def test_parquet_arrays_within_range_are_images(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 3)).astype(np.float32)
    path = write_parquet(tmp_path / "root", "image", arrays.tolist(), group=[1, 2, None, 1, 1], gender=["F"] * 5)
    root, card, _ = opened(paths=root_of(path))
    assert np.abs(tensors_of(root, card, "train").numpy() - arrays.transpose(0, 3, 1, 2)).max() < 5e-4
    assert card.columns["gender"] == {"kind": "categorical", "names": ["female"]}
    assert card.columns["group"]["kind"] == "numeric"


@pytest.mark.parametrize(
    ("column", "values", "data", "complaint"),
    [
        ("data", [1.0], {}, "train.parquet: no column 'image', only data"),
        ("image", [[[0.0, 200.0], [3.0, 4.0]]], {}, "row 0: values from 0 to 200; expected arrays in [-1, 1]"),
        ("image", [[[0.0, 1.0], [0.5]]], {}, "row 0: lists have different lengths"),
        ("image", [b"nonsense"], {}, "row 0: cannot be read as an image"),
        ("image", [None, b"nonsense"], {}, "row 0: expected an image or a signal, found nothing"),
        ("image", [3], {}, "row 0: expected an image or a signal, found int64"),
        (
            "signal",
            [[[1.0, 2.0]]],
            {"representation": "timeseries"},
            "[data] sampling_rate: not set, and the dataset does not state it",
        ),
        (
            "signal",
            [[[1.0, 2.0]], [[1.0, 2.0, 3.0]]],
            {"representation": "timeseries", "sampling_rate": 100.0},
            "row 1: expected a signal of shape (1, 2), the same in all rows; found (1, 3)",
        ),
        (
            "signal",
            [[[1.0, float("nan")]]],
            {"representation": "timeseries", "sampling_rate": 100.0},
            "row 0: the signal has values that are not finite",
        ),
        (
            "signal",
            [[[1e-5, -2e-5]]],
            {"representation": "timeseries", "sampling_rate": 100.0},
            "expected µV: multiply volts by 1e6",
        ),
    ],
)
def test_bad_parquet_content_is_a_one_line_error(
    column: str, values: list[Any], data: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    path = write_parquet(tmp_path / "root", column, values)
    with pytest.raises(UserError) as caught:
        opened(paths=root_of(path), **data)
    assert complaint in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_damaged_parquet_is_a_one_line_error(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "root", "image", [b"1"])
    (path / "train.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UserError, match=r"train\.parquet: cannot be read as Parquet"):
        opened(paths=root_of(path))


def test_parquet_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    with pq.ParquetWriter(path, pa.schema([("image", pa.binary())])) as writer:
        for _ in range(20):
            writer.write_table(pa.table({"image": [os.urandom(2**17) for _ in range(10)]}))
    before, held = pa.total_allocated_bytes(), []
    for _ in parquet_rows([path], "image").tensors():
        held.append(pa.total_allocated_bytes() - before)
    assert len(held) == 200 and max(held) < path.stat().st_size / 2


def test_a_repeated_column_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([b"1"]), pa.array([2])], names=["image", "image"]), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet: two columns are named 'image'"):
        parquet_rows([tmp_path / "train.parquet"], "image")


def test_a_path_in_parquet_is_not_an_image(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "root", "image", [{"bytes": None, "path": "0.png"}])
    with pytest.raises(UserError, match=r"row 0: only the path '0\.png'; expected the image itself"):
        opened(paths=root_of(path))
