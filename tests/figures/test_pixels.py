"""Examples as plain pixels: in order, without interpolation."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.file_formats import write_file
from signal_diffusion.data.foreign.folder_rows import folder_rows
from signal_diffusion.data.representations.pictures import Picture, read_image
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.figures.pixels import draw_animation, draw_grid


def images(count: int, channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_grid_has_one_pixel_per_value(tmp_path: Path) -> None:
    samples = images(5)
    draw_grid(tmp_path / "grid.png", samples, Picture(channels=3, size=8), per_row=3)
    canvas = np.asarray(Image.open(tmp_path / "grid.png"))
    assert canvas.shape == (8 * 2 + 2, 8 * 3 + 2 * 2, 3)
    last = canvas[10:18, 10:18].transpose(2, 0, 1) / 127.5 - 1
    assert np.abs(last - samples[4].numpy()).max() <= 1 / 127.5
    assert (canvas[8:10] == 255).all() and (canvas[10:, 20:] == 255).all()


def test_eeg_has_low_frequencies_at_the_bottom_and_colours(synthetic_dataset: Path, tmp_path: Path) -> None:
    representation = representation_of(DatasetCard.load(synthetic_dataset))
    sample = torch.full((1, 1, 64, 64), -1.0)
    sample[..., 63, :] = 1.0
    draw_grid(tmp_path / "grid.png", sample, representation, per_row=10)
    canvas = np.asarray(Image.open(tmp_path / "grid.png"))
    assert canvas.shape == (64, 64, 3)
    assert canvas[0, 0].tolist() == [0, 0, 3] and canvas[63, 0].tolist() == [251, 252, 191]  # the ends of magma


def test_an_animation_has_every_frame_and_shows_the_last_one_longer(tmp_path: Path) -> None:
    frames = [(images(2) * share, images(2)) for share in (0.0, 0.5, 1.0)]
    draw_animation(tmp_path / "a.gif", frames, Picture(channels=3, size=8))
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3 and image.size == (2 * 96 + 2, 2 * 96 + 2 + 6)  # type: ignore[attr-defined]
        durations = []
        for frame in range(3):
            image.seek(frame)
            durations.append(image.info["duration"])
        middle = np.asarray(image.convert("RGB"))[98:194, :96]
    assert durations == [100, 100, 1500]
    assert np.abs(middle[::12, ::12] / 127.5 - 1 - images(2)[0].permute(1, 2, 0).numpy()).mean() < 0.1


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
