"""Splits are found by the names of folders, or named by the experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import dataset_of
from tests.data.foreign.folders import (
    SPLITS,
    opened,
    pixels,
    root_of,
    save,
)


def test_train_and_val_may_be_separate_folders(folder: Path) -> None:
    paths = schema.Paths(train=str(folder / "train"), val=str(folder / "validation"))
    dataset = dataset_of(schema.Data(representation="image", paths=paths))
    assert list(dataset.card.splits) == list(SPLITS)
    assert [len(dataset.examples(split)) for split in (paths.train, paths.val)] == [3, 3]
    dataset = dataset_of(schema.Data(representation="image", paths=schema.Paths(train=str(folder / "train"))))
    with pytest.raises(UserError, match="has no split 'validation'"):
        dataset.examples(dataset.data.paths.val)


def test_a_folder_with_a_similar_name_is_not_a_split(folder: Path) -> None:
    save(folder / "train-old" / "0.png", pixels(0, 4, 4))
    _, card, _ = opened(paths=root_of(folder))
    assert card.splits["train"]["examples"] == 3
    (folder / "val").mkdir()
    with pytest.raises(UserError, match="second folder for the split 'validation'"):
        opened(paths=root_of(folder))


def test_a_split_of_a_prepared_dataset_is_not_converted(synthetic_dataset: Path) -> None:
    for train in (synthetic_dataset / "train", synthetic_dataset):
        with pytest.raises(UserError, match=r"made by `signal-diffusion prepare`; set .* root = ") as caught:
            opened(paths=schema.Paths(train=str(train)), representation="db-only")
        assert f'"{synthetic_dataset}"' in str(caught.value)
