"""Columns of foreign datasets are described as in a card."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.verification.checks import check_dataset
from signal_diffusion.errors import UserError
from tests.data.foreign.folders import (
    ABOUT,
    SPLITS,
    opened,
    root_of,
    signals,
    write_parquet,
    write_signals,
)


def test_ages_and_sexes_are_read_as_in_subject_tables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arrays = np.zeros((4, 8, 8), np.float32).tolist()
    path = write_parquet(
        tmp_path / "root", "image", arrays, age=["89+", "18-38", "31Y", "n/a"], sex=[1, 2, None, 2], gender=list("FmWX")
    )
    root, card, _ = opened(paths=root_of(path))
    examples = open_split(root, "train")
    assert examples["age"][:] == [89.0, 28.0, 31.0, None]
    assert examples["sex"][:] == ["male", "female", None, "female"] and card.columns["sex"]["names"] == [
        "female",
        "male",
    ]
    assert card.columns["gender"]["names"] == ["X", "female", "male"]
    assert card.preprocessing["participants"] == [
        "age: 2 values such as '89+' (row 0 of train.parquet) read as 89, the lower limit",
        "age: 2 values such as '18-38' (row 1 of train.parquet) read as 28, the middle",
        "sex: 6 values read by the usual codes, 1 as male and 2 as female",
    ]
    assert all(any(note in record.message for record in caplog.records) for note in card.preprocessing["participants"])


def test_what_only_validation_has_is_described_or_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for split, label, age, score in (("train", ["a", None], None, 1.0), ("validation", ["c", "c"], 30.0, 2.0)):
        columns = {"label": label, "age": pa.array([age] * 2, pa.float64()), "score": [score] * 2}
        table = pa.table({"signal": signals(2).tolist(), **columns})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    _, card, _ = opened(paths=root_of(tmp_path), representation="timeseries", sampling_rate=100.0)
    assert card.columns["label"]["names"] == ["a", "c"] and "age" not in card.columns
    assert card.columns["score"] == {"kind": "numeric", "mean": 1.0, "std": 1.0}
    assert card.preprocessing["participants"] == ["age: left out, because no row of the training split has a number"]
    assert any("age: left out" in record.message for record in caplog.records)


def test_an_undeclared_category_is_a_one_line_error(tmp_path: Path) -> None:
    arrays = np.zeros((2, 8, 8)).tolist()
    features = datasets.Features(
        {
            "image": datasets.Sequence(datasets.Sequence(datasets.Value("float32"))),
            "label": datasets.ClassLabel(names=["no", "yes"]),
        }
    )
    path = write_parquet(tmp_path / "root", "image", arrays, label=["no", "maybe"])
    columns = {"image": arrays, "label": [0, 1]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path / "train.parquet")
    with pytest.raises(UserError, match=r"column 'label': 'maybe' in the split 'validation' is not one of .* no, yes"):
        opened(paths=root_of(path))


def test_window_is_an_index_and_the_converted_dataset_passes_the_check(tmp_path: Path) -> None:
    for number, split in enumerate(SPLITS):
        others = {"recording": [f"{number}"] * 6, "window": list(range(6)), "subject": [f"{number}"] * 6}
        scaled = ((1 + number) * signals()).tolist()
        write_signals(tmp_path / "root" / f"{split}.parquet", ABOUT, signal=scaled, **others)
    root, card, _ = opened(paths=root_of(tmp_path / "root"), representation="timeseries")
    assert card.columns["window"] == {"kind": "index"} and open_split(root, "train")["window"][:] == list(range(6))
    assert card.splits["train"]["windows"] == 6
    assert not [check for check in check_dataset(root) if check.complaints]


def test_fractional_window_is_numeric(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "root", "image", np.zeros((2, 8, 8)).tolist(), window=[0.5, 1.0])
    assert opened(paths=root_of(path))[1].columns["window"]["kind"] == "numeric"
