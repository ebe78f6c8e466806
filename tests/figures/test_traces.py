"""Traces are to scale, and maps show the electrodes where they are."""

from __future__ import annotations

import re

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from signal_diffusion.figures.topomaps import FEWEST, draw_topomaps, located
from signal_diffusion.figures.traces import draw_traces, excerpt_in_words, spacing_of

SFREQ = 100.0


def axis_with(signals: np.ndarray, **options) -> Axes:
    axis = Figure().subplots()
    names = [f"E{number}" for number in range(len(signals))]
    draw_traces(axis, signals, **{"sfreq": SFREQ, "ch_names": names, "spacing": 30.0, **options})
    return axis


def line(axis: Axes, label: str) -> np.ndarray:  # (2, points)
    [found] = [each for each in axis.get_lines() if each.get_label() == label]
    return np.array(found.get_data())


@pytest.mark.parametrize(("electrodes", "samples"), [(1, 50), (19, 400), (128, 1000)])
def test_the_scale_bar_is_as_long_as_its_label_says(electrodes: int, samples: int) -> None:
    axis = axis_with(np.random.default_rng(0).normal(size=(electrodes, samples)) * 10)

    [text] = [each.get_text() for each in axis.texts]
    found = re.fullmatch(r"([\d.]+) µV, ([\d.]+) s ", text)
    assert found
    assert np.ptp(line(axis, "µV"), axis=1) == pytest.approx([0, float(found[1])])
    assert np.ptp(line(axis, "s"), axis=1) == pytest.approx([float(found[2]), 0])


def test_a_trace_is_its_signal_in_microvolts_at_its_electrodes_name() -> None:
    signals = np.zeros((3, 200))
    signals[1, 100] = 25.0
    axis = axis_with(signals + np.array([[5.0], [-7.0], [1000.0]]))

    drawn = np.stack([each.get_ydata() for each in axis.get_lines()[:3]])
    assert np.allclose(drawn - np.array(axis.get_yticks())[:, None], signals)
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["E0", "E1", "E2"]
    assert axis.get_yticks()[0] > axis.get_yticks()[2]  # the first electrode is at the top


def test_the_event_is_marked_at_0_s() -> None:
    signals = np.zeros((2, 150))
    signals[:, 50] = 20.0  # at the event
    axis = axis_with(signals, tmin=-0.5)

    assert line(axis, "event")[0].tolist() == [0, 0] and axis.get_xlabel() == "s from the event"
    times, values = axis.get_lines()[0].get_data()
    assert times[np.argmax(values)] == 0.0
    assert "event" not in [each.get_label() for each in axis_with(signals).get_lines()]


def test_a_few_artefacts_do_not_change_the_scale() -> None:
    window = np.random.default_rng(0).normal(size=(19, 500)) * 10
    broken = window.copy()
    broken[:3] *= 1000
    broken[3, :10] = np.nan
    assert spacing_of([window]) == pytest.approx(25.8, rel=0.1)  # 2.58 standard deviations
    assert spacing_of([window, window, broken]) == pytest.approx(spacing_of([window]), rel=0.05)
    assert spacing_of([np.zeros((2, 5)), np.full((2, 5), np.nan)]) == 1.0


def test_only_the_first_seconds_of_a_long_window_are_shown_and_the_title_says_so() -> None:
    assert axis_with(np.zeros((2, 1000)), seconds=4.0).get_xlim() == (0.0, 4.0)
    assert excerpt_in_words(1000, SFREQ) == "first 4 s of windows of 10 s"
    assert excerpt_in_words(250, SFREQ) == "windows of 2.5 s"


def test_names_of_many_electrodes_are_thinned_and_are_only_text() -> None:
    labels = [tick.get_text() for tick in axis_with(np.zeros((128, 10))).get_yticklabels()]
    assert labels[:3] == ["E0", "E2", "E4"]
    names = ["$x$", "a\nb"]
    assert [tick.get_text() for tick in axis_with(np.zeros((2, 9)), ch_names=names).get_yticklabels()] == [
        r"\$x\$",
        r"a\nb",
    ]


def test_values_that_are_not_finite_leave_a_gap_and_are_counted() -> None:
    signals = np.ones((2, 100))
    signals[0, 50:] = np.nan
    axis = axis_with(signals, scale_bar=False)
    assert [each.get_text() for each in axis.texts] == ["25 % of the values are not finite"]
    assert np.isfinite(axis.get_lines()[0].get_ydata()).sum() == 50
    axis_with(np.full((2, 100), np.inf))  # without a warning


def montage(count: int) -> dict[str, list[float]]:
    """The vertex, and a ring of the others at the equator."""
    angles = np.arange(count - 1) * 2 * np.pi / (count - 1)
    return {"E0": [0.0, 0.0, 1.0]} | {f"E{n}": [np.cos(a), np.sin(a), 0.0] for n, a in enumerate(angles, start=1)}


def test_maps_share_the_scale_of_their_band_and_show_right_on_the_right() -> None:
    positions = montage(13)
    right = np.array([position[0] for position in positions.values()])
    axes = Figure().subplots(2, 2)

    rows = [np.stack([right, right], -1), np.stack([3 * right, -right], -1)]
    draw_topomaps(axes, rows, bands=["alpha", "beta"], ch_names=list(positions), positions=positions)

    images = [[axis.images[0] for axis in row] for row in axes]
    assert images[0][0].get_clim() == images[1][0].get_clim() == (-3, 3)
    assert images[0][1].get_clim() == images[1][1].get_clim() == (-1, 1)
    values = np.asarray(images[0][0].get_array())  # (rows, columns), x to the right
    middle = len(values) // 2
    assert values[middle, -10] > 0.5 and values[middle, 10] < -0.5
    assert axes[0, 0].get_title() == "alpha\n-3.0 to 3.0 dB"


def test_maps_need_enough_electrodes_at_known_and_different_positions() -> None:
    positions = montage(FEWEST)
    names = [*positions, "unknown"]
    assert located(names, positions).tolist() == list(range(FEWEST))
    assert not len(located(names[1:], positions))
    ring = {name: place for name, place in montage(30).items() if name != "E0"}
    assert not len(located(list(ring), ring))
    assert located([*names, "same"], positions | {"same": positions["E0"]}).tolist() == list(range(FEWEST))
