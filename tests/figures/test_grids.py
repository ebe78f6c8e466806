"""Grids and animations: images pixel by pixel, with axes if they are spectrograms; time series as traces to scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.figures import pixels
from signal_diffusion.figures.grids import draw_animation, draw_grid
from signal_diffusion.figures.images import image_axes
from signal_diffusion.figures.trace_images import common_spacing, window_images, window_rows
from tests.figures.cards import card_for

RED = [214, 39, 40]  # the scale bar


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def images(count: int, channels: int = 3, size: int = 8) -> torch.Tensor:
    return torch.rand(count, channels, size, size, generator=seeded()) * 2 - 1


@pytest.fixture(scope="module")
def pictures() -> DatasetCard:
    card, _ = series()
    picture = Picture(channels=3, size=8)
    about = {"name": "image", "layout": "picture", "inverse": "none", "parameters": picture.parameters()}
    return replace(card, representation=about, shape=(3, 8, 8), sampling_rate=None, window=None)


def series(samples: int = 512, electrodes: int = 3, **entries: float) -> tuple[DatasetCard, np.ndarray]:
    signals = 10 * torch.randn(4, electrodes, samples, generator=seeded())
    names = [f"E{number}" for number in range(electrodes)]
    return card_for("timeseries", signals, rate=64.0, channels=names, **entries), signals.numpy()


def test_a_grid_of_pictures_has_one_pixel_per_value_and_no_axes(pictures: DatasetCard, tmp_path: Path) -> None:
    samples = images(5)
    draw_grid(tmp_path / "grid.png", samples, pictures, per_row=3)
    canvas = np.asarray(Image.open(tmp_path / "grid.png"))
    assert canvas.shape == (8 * 2 + 2, 8 * 3 + 2 * 2, 3)
    last = canvas[10:18, 10:18].transpose(2, 0, 1) / 127.5 - 1
    assert np.abs(last - samples[4].numpy()).max() <= 1 / 127.5
    assert (canvas[8:10] == 255).all() and (canvas[10:, 20:] == 255).all()


def test_spectrograms_have_one_pixel_per_value_in_colour_inside_of_axes(
    synthetic_dataset: Path, tmp_path: Path
) -> None:
    card = DatasetCard.load(synthetic_dataset)
    sample = torch.full((1, 1, 64, 64), -1.0)
    sample[..., 63, :] = 1.0
    draw_grid(tmp_path / "grid.png", sample, card, per_row=10)
    canvas = np.asarray(Image.open(tmp_path / "grid.png"))
    inside = canvas[pixels.TOP : pixels.TOP + 64, pixels.LEFT : pixels.LEFT + 64]
    assert (inside[:63] == [0, 0, 3]).all() and (inside[63] == [251, 252, 191]).all()  # the ends of magma
    assert canvas[:, : pixels.LEFT].min() == 0 and canvas[pixels.TOP + 64 :].min() == 0  # text
    assert (canvas[:, pixels.LEFT + 64 + 1 :] == 255).all()


@pytest.mark.parametrize(("options", "hertz"), [({}, 20.0), ({"layout": "mosaic", "frequency": "log"}, 8.0)])
def test_ticks_are_at_their_frequencies(options: dict[str, Any], hertz: float) -> None:
    signals = torch.randn(4, 2, 2048, generator=seeded())
    card = card_for("db-only", signals, rate=126.0, pictures=PictureOptions(**options), channels=["C3", "C4"])
    known = image_axes(card)
    axis = Figure().subplots()
    assert known is not None
    pixels._number_rows(axis, known, height=64, tops=range(0, 200, 66))
    labels = [tick.get_text() for tick in axis.get_yticklabels()]
    centre = axis.get_yticks()[labels.index(f"{hertz:g}")]
    frequencies, _ = representation_of(card).mean_spectrum(torch.zeros(1, *card.shape)) or (torch.zeros(0), None)
    nearest = 63 - int((frequencies - hertz).abs().argmin())  # rows are numbered from above, the highest frequency
    assert abs(centre - (nearest + 0.5)) <= 0.5
    assert axis.get_yticks()[len(known.hertz)] == pytest.approx(axis.get_yticks()[0] + 66)


def test_time_series_are_traces_with_a_scale_bar_in_each_row(tmp_path: Path) -> None:
    card, signals = series()
    draw_grid(tmp_path / "grid.png", representation_of(card).to_tensor(torch.from_numpy(signals)), card, per_row=3)
    canvas = np.asarray(Image.open(tmp_path / "grid.png"))
    red = (canvas == RED).all(-1)
    half = len(canvas) // 2
    assert red[:half].any() and red[half:].any()
    assert (canvas[half:, canvas.shape[1] // 2 :] == 255).all()  # the second row has only one window


def test_traces_of_a_grid_are_on_one_scale() -> None:
    card, signals = series(electrodes=1)
    flat = np.zeros_like(signals)
    rows = [signals[:1], signals[:1] / 4]
    canvas = window_rows(rows, card, spacing=common_spacing(signals))
    empty = window_rows([flat[:1], flat[:1]], card, spacing=common_spacing(signals))
    heights = [np.ptp(np.flatnonzero((half != 255).any((1, 2)))) for half in np.split(_without_names(canvas), 2)]
    assert heights[0] > 3 * heights[1] > 0 and canvas.shape == empty.shape


def _without_names(canvas: np.ndarray) -> np.ndarray:
    """The part of each trace that is neither a name, a title nor the scale bar."""
    return np.concatenate([half[25:150, 60:] for half in np.split(canvas, 2)])


@pytest.mark.parametrize(("electrodes", "samples"), [(1, 32), (19, 1024), (64, 1024)])
def test_a_window_is_one_image_from_beginning_to_end(electrodes: int, samples: int) -> None:
    card, signals = series(samples, electrodes)
    signals[:, :, : samples - 4] = 0.0
    signals[:, 0, -3] = 60.0  # the end is shown
    first, second = list(window_images(signals[:2], card))
    assert first.shape == second.shape and first.dtype == np.uint8
    assert (first[30:80, int(0.85 * first.shape[1]) :] != 255).any()


def test_an_animation_has_every_frame_and_shows_the_last_one_longer(pictures: DatasetCard, tmp_path: Path) -> None:
    frames = [(images(2) * share, images(2)) for share in (0.0, 0.5, 1.0)]
    draw_animation(tmp_path / "a.gif", frames, pictures)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 3 and image.size == (2 * 96 + 2, 2 * 96 + 2 + 6)  # type: ignore[attr-defined]
        durations = []
        for frame in range(3):
            image.seek(frame)
            durations.append(image.info["duration"])
        middle = np.asarray(image.convert("RGB"))[98:194, :96]
    assert durations == [100, 100, 1500]
    assert np.abs(middle[::12, ::12] / 127.5 - 1 - images(2)[0].permute(1, 2, 0).numpy()).mean() < 0.1


@pytest.mark.parametrize(("electrodes", "shown"), [(3, 3), (32, 2), (64, 1), (128, 1)])
def test_an_animation_of_time_series_shows_as_many_windows_as_are_readable(
    electrodes: int, shown: int, tmp_path: Path
) -> None:
    card, signals = series(64, electrodes)
    tensors = representation_of(card).to_tensor(torch.from_numpy(signals))
    draw_animation(tmp_path / "a.gif", [(tensors, tensors)], card)
    expected = window_rows([signals[:shown]], card, spacing=1.0).shape
    with Image.open(tmp_path / "a.gif") as image:
        assert image.size == (expected[1], 2 * expected[0] + 6)


def test_windows_around_events_have_room_for_the_numbers_of_seconds() -> None:
    card, signals = series(tmin=-1.0)
    plain, _ = series()
    assert len(window_rows([signals], card, spacing=1.0)) > len(window_rows([signals], plain, spacing=1.0))
