"""Datasets that `prepare` did not make: what is read from them, and one-line errors for what cannot be read."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from signal_diffusion.config import schema
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.foreign.parquet_rows import parquet_rows
from signal_diffusion.data.loaders import Examples
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.data.verification.checks import check_dataset
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.experiment.dataset import Dataset, dataset_of
from signal_diffusion.experiment.loading import load_experiment

SPLITS = ("train", "validation")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def pixels(seed: int, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "png")
    return buffer.getvalue()


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


def opened(**data: Any) -> tuple[Path, DatasetCard, schema.Data]:
    data = {"representation": "image", **data}
    dataset = dataset_of(schema.Data(**data))
    return dataset.root, dataset.card, dataset.data


def root_of(path: Path | str) -> schema.Paths:
    return schema.Paths(root=str(path))


def tensors_of(root: Path, card: DatasetCard, split: str) -> torch.Tensor:
    examples = Examples(open_split(root, split), shape=card.shape, tensor=card.representation["column"], attributes={})
    return examples[list(range(len(examples)))][0]


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


def test_train_and_val_may_be_separate_folders(folder: Path) -> None:
    paths = schema.Paths(train=str(folder / "train"), val=str(folder / "validation"))
    dataset = dataset_of(schema.Data(representation="image", paths=paths))
    assert list(dataset.card.splits) == list(SPLITS)
    assert [len(dataset.examples(split)) for split in (paths.train, paths.val)] == [3, 3]
    dataset = dataset_of(schema.Data(representation="image", paths=schema.Paths(train=str(folder / "train"))))
    with pytest.raises(UserError, match="has no split 'validation'"):
        dataset.examples(dataset.data.paths.val)


def test_conversion_runs_once_and_again_after_a_change(folder: Path) -> None:
    root, _, _ = opened(paths=root_of(folder))
    before = (root / CARD_NAME).stat().st_mtime_ns
    again, _, _ = opened(paths=root_of(folder))
    assert again == root and (root / CARD_NAME).stat().st_mtime_ns == before
    assert opened(paths=root_of(folder), image_size=8)[0] != root
    save(folder / "train" / "0.png", pixels(7, 16, 16))
    assert opened(paths=root_of(folder))[0] != root


def test_other_sizes_are_resized_on_the_shorter_side_and_centre_cropped(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 240, 2, dtype=np.uint8), (60, 1))  # 60 × 120, from black to grey
    for split in SPLITS:
        save(tmp_path / "root" / split / "wide.png", ramp)
        save(tmp_path / "root" / split / "tall.png", ramp.T.copy())
    root, card, _ = opened(paths=root_of(tmp_path / "root"), image_size=30)
    tall, wide = (tensors_of(root, card, "train")[:, 0] + 1) * 127.5
    middle = torch.arange(30) * 4 + 61.0  # means of two pixels each, columns 30 to 89 of the ramp
    assert (wide[10] - middle)[2:-2].abs().max() < 1.5
    assert torch.equal(tall, wide.T)


def test_sixteen_bits_transparency_and_palettes_are_read(tmp_path: Path) -> None:
    deep = pixels(1, 8, 8, dtype=np.uint16)
    clear = pixels(2, 8, 8, 4)
    for split in SPLITS:
        save(tmp_path / "deep" / split / "a.png", deep)
        save(tmp_path / "clear" / split / "a.png", clear)
        Image.fromarray(clear[..., :3]).quantize(256).save(tmp_path / "clear" / split / "b.png")
    root, card, _ = opened(paths=root_of(tmp_path / "deep"))
    assert np.abs(tensors_of(root, card, "train")[0, 0].numpy() - (deep / 32767.5 - 1)).max() < 5e-4
    root, card, _ = opened(paths=root_of(tmp_path / "clear"))
    colours = (clear[..., :3] / 127.5 - 1).transpose(2, 0, 1)
    tensors = tensors_of(root, card, "train").numpy()
    assert np.abs(tensors[0] - colours).max() < 5e-4 and np.abs(tensors[1] - colours).max() < 0.1


@pytest.mark.parametrize("representation", ["db-iq", "image"])
def test_grey_images_among_coloured_ones_are_repeated_with_one_warning(
    representation: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for split in SPLITS:
        save(tmp_path / "root" / split / "grey.png", pixels(0, 8, 8))
        save(tmp_path / "root" / split / "red.png", pixels(1, 8, 8, 3))
    for _ in range(2):
        root, card, _ = opened(paths=root_of(tmp_path / "root"), representation=representation)
    grey = tensors_of(root, card, "train")[0]
    assert card.shape == (3, 8, 8) and torch.equal(grey[0], grey[2])
    warning = "db-iq images without limits and scales: samples cannot be turned into signals"
    expected = [warning] if representation == "db-iq" else []
    assert [record.message for record in caplog.records] == [
        *expected,
        "2 of 4 images are grey: repeated to three channels",
    ]
    assert representation_of(card) == Picture(channels=3, size=8)


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


def write_parquet(root: Path, column: str, values: list[Any], **others: list[Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        pq.write_table(pa.table({column: values, **others}), root / f"{split}.parquet")
    return root


def test_parquet_arrays_within_range_are_images(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).uniform(-1, 1, (5, 8, 8, 3)).astype(np.float32)
    path = write_parquet(tmp_path / "root", "image", arrays.tolist(), group=[1, 2, None, 1, 1], gender=["F"] * 5)
    root, card, _ = opened(paths=root_of(path))
    assert np.abs(tensors_of(root, card, "train").numpy() - arrays.transpose(0, 3, 1, 2)).max() < 5e-4
    assert card.columns["gender"] == {"kind": "categorical", "names": ["female"]}
    assert card.columns["group"]["kind"] == "numeric"


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


def signals(count: int = 6) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((count, 3, 128)) * 20).astype(np.float32)


def test_parquet_signals_are_fitted_on_training_split_and_invert_to_microvolts(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "root", "signal", signals().tolist(), subject=["01", "02"] * 3)
    root, card, _ = opened(paths=root_of(path), representation="timeseries", sampling_rate=100.0)
    fitted = representation_of(card)
    assert isinstance(fitted, TimeSeries) and card.shape == (1, 3, 128)
    assert (card.sampling_rate, card.window, card.channels, card.unit) == (100.0, 128, ("1", "2", "3"), "µV")
    assert card.splits["train"]["subjects"] == ["01", "02"]
    assert (fitted.to_signal(tensors_of(root, card, "train")) - torch.from_numpy(signals())).abs().max() < 0.1


def test_parquet_may_state_rate_and_electrodes(tmp_path: Path) -> None:
    about = {b"ch_names": b'["Fz", "Cz", "Pz"]', b"sampling_rate": b"250.0"}
    (tmp_path / "root").mkdir()
    for split in SPLITS:
        table = pa.table({"signal": signals().tolist()}).replace_schema_metadata(about)
        pq.write_table(table, tmp_path / "root" / f"{split}.parquet")
    _, card, _ = opened(paths=root_of(tmp_path / "root"), representation="timeseries")
    assert (card.sampling_rate, card.channels) == (250.0, ("Fz", "Cz", "Pz"))
    with pytest.raises(UserError, match="100 Hz, but the dataset says 250 Hz"):
        opened(paths=root_of(tmp_path / "root"), representation="timeseries", sampling_rate=100.0)


def test_prepared_dataset_on_the_hub_is_used_without_conversion(
    synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests: list[Any] = []

    def download(name: str, **options: Any) -> str:
        requests.append((name, options))
        return str(synthetic_dataset)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    root, card, _ = opened(source="hub", paths=root_of("me/eeg@v1"), representation="db-only")
    assert root == synthetic_dataset and card.shape == (1, 64, 64)
    assert requests == [
        ("me/eeg", {"repo_type": "dataset", "revision": "v1", "allow_patterns": None, "ignore_patterns": None})
    ]


def test_foreign_dataset_on_the_hub_is_converted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *arguments, **options: str(folder))
    _, card, _ = opened(source="hub", paths=root_of("me/pictures"))
    assert card.sources[0]["name"] == "me/pictures" and card.splits["train"]["examples"] == 3


def test_hub_without_network_is_a_one_line_error() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(
        UserError, match=r"^\[data.paths\] root: nobody/nothing: could not be downloaded from the Hub"
    ) as caught:
        opened(source="hub", paths=root_of("nobody/nothing"))
    assert len(str(caught.value).splitlines()) == 1


def test_grey_images_get_three_channels_for_a_colour_model(folder: Path, tmp_path: Path) -> None:
    _, card, data = opened(paths=root_of(folder))
    (tmp_path / "checkpoint-1").mkdir()
    coloured = json.loads(card.to_json()) | {"shape": [3, 16, 16]}
    (tmp_path / "checkpoint-1" / CARD_NAME).write_text(json.dumps(coloured))
    start = Checkpoint(tmp_path / "checkpoint-1")
    found = dataset_of(data, min_channels=start.min_channels)
    assert card.shape == (1, 16, 16) and DatasetCard.load(found.root).shape == found.card.shape == (3, 16, 16)


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


def test_image_size_for_a_prepared_dataset_is_an_error(synthetic_dataset: Path) -> None:
    with pytest.raises(UserError, match=r"\[data\] image_size: has no effect on"):
        opened(paths=root_of(synthetic_dataset), representation="db-only", image_size=32)


def test_a_folder_with_a_similar_name_is_not_a_split(folder: Path) -> None:
    save(folder / "train-old" / "0.png", pixels(0, 4, 4))
    _, card, _ = opened(paths=root_of(folder))
    assert card.splits["train"]["examples"] == 3
    (folder / "val").mkdir()
    with pytest.raises(UserError, match="second folder for the split 'validation'"):
        opened(paths=root_of(folder))


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["data.source=hub"], "[data.paths] root: expected a Hub id, 'owner/name' or 'owner/name@revision'"),
        (["data.source=hub", "data.paths.root=name"], "found 'name'"),
        (["data.image_size=0"], "[data] image_size: expected a number greater than or equal to 1"),
        (["data.sampling_rate=100.0"], "has no effect with data.representation = 'db-only'; it needs 'timeseries'"),
        (["data.representation=timeseries", "data.image_size=8"], "[data] image_size: has no effect"),
        (["data.source=synthetic", "data.paths.root=", "data.representation=image"], "the synthetic dataset is EEG"),
    ],
)
def test_conflicting_keys_are_errors_when_the_experiment_is_loaded(
    overrides: list[str], complaint: str, experiment_file: Path
) -> None:
    with pytest.raises(UserError) as caught:
        load_experiment(experiment_file, overrides)
    assert complaint in str(caught.value) and len(caught.value.lines) == 1


def write_signals(path: Path, about: dict[str, Any], **others: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {key: value if isinstance(value, bytes) else json.dumps(value) for key, value in about.items()}
    others = {"signal": signals().tolist(), **others}
    pq.write_table(pa.table(others).replace_schema_metadata(metadata), path)


ABOUT = {"sampling_rate": 250.0, "ch_names": ["Fz", "Cz", "Pz"], "unit": "µV"}


@pytest.mark.parametrize("other", ["train-1.parquet", "validation.parquet"])
@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        ({"sampling_rate": 256}, "sampling_rate 256, but "),
        ({"ch_names": ["Fz", "Pz", "Cz"]}, "ch_names ['Fz', 'Pz', 'Cz'], but "),
        ({"ch_names": ["Fz", "Fz", "Cz"]}, "expected a list of unique names"),
        ({"ch_names": [1, 2, 3]}, "expected a list of unique names"),
        ({"ch_names": b"Fz,Cz,Pz"}, "state ch_names 'Fz,Cz,Pz'; expected a list of unique names"),
        ({"sampling_rate": "250"}, "state sampling_rate '250'; expected a number above 0, in Hz"),
        ({"sampling_rate": b"NaN"}, "state sampling_rate nan; expected a number above 0, in Hz"),
        ({"sampling_rate": 0}, "state sampling_rate 0; expected a number above 0, in Hz"),
        ({"sampling_rate": True}, "state sampling_rate True; expected a number above 0, in Hz"),
        ({"sampling_rate": b"\xff"}, "expected a number above 0, in Hz"),
        ({"unit": "V"}, "state unit 'V'; expected 'µV'"),
    ],
)
def test_invalid_or_conflicting_signal_metadata_is_an_error(
    about: dict[str, Any], complaint: str, other: str, tmp_path: Path
) -> None:
    for name in ("train-0.parquet", "validation.parquet"):
        write_signals(tmp_path / "root" / name, ABOUT)
    write_signals(tmp_path / "root" / other, about)
    with pytest.raises(UserError) as caught:
        opened(paths=root_of(tmp_path / "root"), representation="timeseries")
    assert f"{other}: " in str(caught.value) and complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_files_without_signal_metadata_use_that_of_the_others(tmp_path: Path) -> None:
    write_signals(tmp_path / "root" / "train-0.parquet", {})
    write_signals(tmp_path / "root" / "train-1.parquet", {"huggingface": b"[]"})
    write_signals(tmp_path / "root" / "validation.parquet", ABOUT)
    _, card, _ = opened(paths=root_of(tmp_path / "root"), representation="timeseries")
    assert (card.sampling_rate, card.channels) == (250.0, ("Fz", "Cz", "Pz"))


def test_a_split_of_a_prepared_dataset_is_not_converted(synthetic_dataset: Path) -> None:
    for train in (synthetic_dataset / "train", synthetic_dataset):
        with pytest.raises(UserError, match=r"made by `signal-diffusion prepare`; set .* root = ") as caught:
            opened(paths=schema.Paths(train=str(train)), representation="db-only")
        assert f'"{synthetic_dataset}"' in str(caught.value)


def test_conversion_is_logged_at_its_start(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        root, _, _ = opened(paths=root_of(folder))
    assert [record.message for record in caplog.records] == [f"converting pictures into {root}"]


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


def test_a_repeated_column_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table([pa.array([b"1"]), pa.array([2])], names=["image", "image"]), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet: two columns are named 'image'"):
        parquet_rows([tmp_path / "train.parquet"], "image")


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


def test_broken_link_is_a_one_line_error_and_a_folder_named_like_an_image_is_ignored(tmp_path: Path) -> None:
    for split in SPLITS:
        save(tmp_path / "root" / split / "0.png", pixels(0, 8, 8))
    (tmp_path / "root" / "train" / "x.png").mkdir()
    _, card, _ = opened(paths=root_of(tmp_path / "root"))
    assert card.splits["train"]["examples"] == 1
    (tmp_path / "root" / "train" / "1.png").symlink_to("gone.png")
    with pytest.raises(UserError, match=r"train/1\.png: broken link to gone\.png"):
        opened(paths=root_of(tmp_path / "root"))


def test_a_path_in_parquet_is_not_an_image(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "root", "image", [{"bytes": None, "path": "0.png"}])
    with pytest.raises(UserError, match=r"row 0: only the path '0\.png'; expected the image itself"):
        opened(paths=root_of(path))


@pytest.mark.parametrize(("low", "warnings"), [(0.0, 1), (-0.5, 0)])
def test_arrays_from_zero_to_one_are_warned_about(
    low: float, warnings: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_parquet(tmp_path / "root", "image", np.linspace(low, 1, 128).reshape(2, 8, 8).tolist())
    opened(paths=root_of(path))
    assert sum("half of the expected [-1, 1]" in record.message for record in caplog.records) == warnings
