from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import MappedTensors, as_array, open_split
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.spectrogram import DbOnly
from signal_diffusion.errors import UserError


def test_card_survives_json(synthetic_dataset: Path):
    card = DatasetCard.load(synthetic_dataset)
    assert DatasetCard.from_json(card.to_json()) == card


def test_the_card_rebuilds_the_representation(synthetic_dataset: Path):
    card = DatasetCard.load(synthetic_dataset)
    representation = representation_of(card)
    assert isinstance(representation, DbOnly)
    assert representation.shape == card.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda text: text[:-20], "Invalid JSON"),
        (lambda text: "[]", "should be an object"),
        (lambda text: "{}", "format_version"),
        (lambda text: text.replace('"format_version": 3', '"format_version": 99'), "format version 99"),
        (lambda text: text.replace('"channels"', '"chanels"'), "chanels, channels"),
    ],
)
def test_a_damaged_card_is_a_one_line_error(synthetic_dataset: Path, tmp_path: Path, damage, complaint: str):
    text = (synthetic_dataset / CARD_NAME).read_text()
    (tmp_path / CARD_NAME).write_text(damage(text))
    with pytest.raises(UserError, match=complaint) as caught:
        DatasetCard.load(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) in str(caught.value)


def test_a_missing_card_is_an_error(tmp_path: Path):
    with pytest.raises(UserError, match="not a dataset"):
        DatasetCard.load(tmp_path)


def test_a_split_has_the_columns_and_examples_that_the_card_states(synthetic_dataset: Path):
    card = DatasetCard.load(synthetic_dataset)
    for name, stated in card.splits.items():
        split = open_split(synthetic_dataset, name)
        assert len(split) == stated["examples"]
        assert split.column_names == ["image", *card.columns]
        assert set(split["subject"]) == set(stated["subjects"])
        labels = split.features["label"].int2str(split["label"])
        assert {label: labels.count(label) for label in set(labels)} == {
            label: entry["examples"] for label, entry in stated["marginals"]["label"].items()
        }


def test_the_datasets_library_can_read_it(synthetic_dataset: Path):
    splits = datasets.load_dataset(str(synthetic_dataset))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 228,
        "validation": 76,
        "test": 76,
    }
    assert splits["train"].features["image"] == datasets.Array3D(shape=(1, 64, 64), dtype="float16")


def test_all_ways_of_reading_a_tensor_give_the_same_values(synthetic_dataset: Path):
    split = open_split(synthetic_dataset, "train")
    rows = [200, 3, 3, 117]
    mapped = MappedTensors(split.data.column("image"), (1, 64, 64))
    assert len(mapped) == len(split)
    assert mapped[rows].dtype == np.float16
    table = split.select_columns(["image"]).with_format("arrow")[rows]
    assert np.array_equal(mapped[rows], as_array(table.column(0), (1, 64, 64)))
    assert np.array_equal(mapped[rows], np.array([split[row]["image"] for row in rows], dtype=np.float16))


def test_electrodes_of_a_window_are_consecutive_in_the_order_of_the_card(synthetic_dataset: Path):
    card = DatasetCard.load(synthetic_dataset)
    split = open_split(synthetic_dataset, "train")
    window = split.select(range(19, 38))
    assert window.features["electrode"].int2str(window["electrode"]) == list(card.channels)
    assert len(set(window["window"])) == len(set(window["recording"])) == 1


def test_spectrograms_use_the_whole_range(synthetic_dataset: Path):
    split = open_split(synthetic_dataset, "train")
    values = torch.from_numpy(MappedTensors(split.data.column("image"), (1, 64, 64))[range(len(split))]).float()
    assert values.min() == -1
    assert values.max() == 1
    assert 0.002 < (values.abs() == 1).float().mean() < 0.01  # clipped: 0.5 % below, 0.01 % above


def test_an_unknown_split_and_a_missing_file_are_errors(synthetic_dataset: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no split 'tset', only train, validation, test"):
        open_split(synthetic_dataset, "tset")
    card = DatasetCard.load(synthetic_dataset)
    replace(card, files={"train/00000.parquet": "0"}).save(tmp_path)
    with pytest.raises(UserError, match=r"train.00000\.parquet: listed in the card, but missing"):
        open_split(tmp_path, "train")
