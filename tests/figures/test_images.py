"""Spectrograms have axes in Hz and seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.figures.images import draw_image, image_axes
from tests.figures.cards import card_for

RATE, WINDOW, NAMES = 125.0, 2048, ("O1", "Cz", "$F$")
MOSAIC = PictureOptions(layout="mosaic", size=128)
LAYOUTS = [PictureOptions(), MOSAIC, replace(MOSAIC, frequency="log")]


def tone(pictures: PictureOptions) -> tuple[DatasetCard, Axes]:
    """A tone of 10 Hz that starts in the middle of the window, drawn."""
    times = torch.arange(WINDOW) / RATE
    signals = (20 * torch.sin(2 * np.pi * 10 * times) * (times > WINDOW / RATE / 2)).expand(1, len(NAMES), -1)
    card = card_for("db-only", signals, rate=RATE, pictures=pictures, channels=NAMES)
    fitted = representation_of(card)
    tensors = fitted.to_tensor(signals)[0]
    axis = Figure().subplots()
    image = fitted.picture(tensors if fitted.layout == "mosaic" else tensors[0])
    draw_image(axis, image, image_axes(card), leftmost=True, lowest=True)
    return card, axis


def brightest(axis: Axes) -> tuple[float, float]:
    """Row and column of the brightest pixel in the units of the axes."""
    image = axis.images[0]
    values = np.asarray(image.get_array())
    row, column = np.unravel_index(values.argmax(), values.shape)
    left, right, bottom, top = image.get_extent()
    height, width = values.shape
    return top + (bottom - top) * (row + 0.5) / height, left + (right - left) * (column + 0.5) / width


@pytest.mark.parametrize("pictures", LAYOUTS, ids=["electrode", "mosaic", "log"])
def test_a_tone_of_10_hz_is_at_10_hz(pictures: PictureOptions) -> None:
    _, axis = tone(pictures)
    hertz = [float(tick.get_text()) for tick in axis.get_yticklabels()]
    height = np.interp(10, hertz, axis.get_yticks())
    assert brightest(axis)[0] == pytest.approx(height, abs=0.1 if pictures.frequency == "log" else 0.5)
    assert axis.get_ylabel() == "Hz" and axis.get_ylim()[0] < axis.get_ylim()[1]
    if pictures.frequency == "linear":
        assert axis.get_yticks() == pytest.approx(hertz)


def test_time_is_in_seconds_and_an_event_is_at_0() -> None:
    card, axis = tone(PictureOptions())
    assert axis.get_xlabel() == "s" and axis.get_xlim() == (0, WINDOW / RATE)
    assert brightest(axis)[1] > WINDOW / RATE / 2

    image = torch.zeros(64, 64)
    axis = Figure().subplots()
    draw_image(axis, image, image_axes(replace(card, tmin=-2.0)), leftmost=False, lowest=True)
    assert axis.get_xlim() == (-2, WINDOW / RATE - 2) and axis.get_xlabel() == "s from the event"
    [event] = axis.get_lines()
    assert event.get_label() == "event" and list(event.get_xdata()) == [0, 0]


def test_strips_of_a_mosaic_are_named_and_their_length_is_given() -> None:
    _, axis = tone(MOSAIC)
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["O1", "Cz", r"\$F\$"]
    assert axis.get_xticks().tolist() == [0.5, 1.5, 2.5] and axis.get_xlabel() == "strips of 16.4 s"
    strip = 128 // 3
    assert axis.get_xlim()[1] == pytest.approx(128 / strip)  # two columns at the right are empty
