"""The representation of a foreign dataset fits its images and signals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.dataset import dataset_of
from tests.data.foreign.folders import (
    SPLITS,
    opened,
    pixels,
    root_of,
    save,
    signals,
    tensors_of,
    write_parquet,
)


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


def test_grey_images_get_three_channels_for_a_colour_model(folder: Path, tmp_path: Path) -> None:
    _, card, data = opened(paths=root_of(folder))
    (tmp_path / "checkpoint-1").mkdir()
    coloured = json.loads(card.to_json()) | {"shape": [3, 16, 16]}
    (tmp_path / "checkpoint-1" / CARD_NAME).write_text(json.dumps(coloured))
    start = Checkpoint(tmp_path / "checkpoint-1")
    found = dataset_of(data, min_channels=start.min_channels)
    assert card.shape == (1, 16, 16) and DatasetCard.load(found.root).shape == found.card.shape == (3, 16, 16)


@pytest.mark.parametrize(("low", "warnings"), [(0.0, 1), (-0.5, 0)])
def test_arrays_from_zero_to_one_are_warned_about(
    low: float, warnings: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_parquet(tmp_path / "root", "image", np.linspace(low, 1, 128).reshape(2, 8, 8).tolist())
    opened(paths=root_of(path))
    assert sum("half of the expected [-1, 1]" in record.message for record in caplog.records) == warnings


def test_parquet_signals_are_fitted_on_training_split_and_invert_to_microvolts(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "root", "signal", signals().tolist(), subject=["01", "02"] * 3)
    root, card, _ = opened(paths=root_of(path), representation="timeseries", sampling_rate=100.0)
    fitted = representation_of(card)
    assert isinstance(fitted, TimeSeries) and card.shape == (1, 3, 128)
    assert (card.sampling_rate, card.window, card.channels, card.unit) == (100.0, 128, ("1", "2", "3"), "µV")
    assert card.splits["train"]["subjects"] == ["01", "02"]
    assert (fitted.to_signal(tensors_of(root, card, "train")) - torch.from_numpy(signals())).abs().max() < 0.1
