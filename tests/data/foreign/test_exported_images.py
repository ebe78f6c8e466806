"""Exported images are data: read back, they are the examples at eight bits."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.file_formats import write_file
from signal_diffusion.data.foreign.folder_rows import folder_rows
from signal_diffusion.data.representations.pictures import read_image
from signal_diffusion.errors import UserError
from tests.figures.cards import card_for


def images(count: int, channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def card(synthetic_dataset: Path) -> DatasetCard:
    return DatasetCard.load(synthetic_dataset)


METADATA = {"label": ["alert", "", "relaxed"], "age": [31.0, float("nan"), 20.0]}


def test_exported_images_are_read_back_to_eight_bits(card: DatasetCard, tmp_path: Path) -> None:
    samples = images(3, channels=1, size=64)
    folder = write_file(tmp_path / "samples", None, card, METADATA, "png", tensors=samples)
    rows = folder_rows(folder, "label")
    read = [read_image(path, where, channels=1, size=64) for where, path in rows.tensors()]
    assert np.abs(np.stack(read) - samples.numpy()).max() <= 1 / 255 + 1e-6
    assert rows.columns == {"label": ["alert", None, "relaxed"], "age": ["31.0", None, "20.0"]}


def test_three_channels_are_red_green_and_blue(card: DatasetCard, tmp_path: Path) -> None:
    samples = images(1)
    folder = write_file(tmp_path / "samples", None, card, {"label": ["alert"]}, "png", tensors=samples)
    [read] = [read_image(path, where, channels=3, size=8) for where, path in folder_rows(folder, "label").tensors()]
    assert np.abs(read - samples[0].numpy()).max() <= 1 / 255 + 1e-6


def test_datasets_reads_the_folder_as_images(card: DatasetCard, tmp_path: Path) -> None:
    write_file(tmp_path / "samples", None, card, METADATA, "png", tensors=images(3, channels=1, size=64))
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "samples"), split="train")
    assert loaded["label"][:] == ["alert", None, "relaxed"] and loaded[0]["image"].size == (64, 64)


def test_time_series_are_no_images(tmp_path: Path) -> None:
    signals = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(0))
    series = card_for("timeseries", signals, rate=64.0, channels=["C3", "Cz", "C4"])
    with pytest.raises(UserError, match="samples: time series are no images"):
        write_file(tmp_path / "samples", None, series, None, "png", tensors=signals[:, None])
