"""Figures of samples: time series as traces next to real ones, on one scale, with maps of bands; images as images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.figures.groups import ExampleSet, SampleGroup
from signal_diffusion.figures.reconstructions import draw_reconstructions
from signal_diffusion.figures.samples import draw_samples
from signal_diffusion.figures.trace_rows import trace_figure
from tests.figures.cards import card_for

RATE, WINDOW = 100.0, 600
NAMES = ("Fp1", "Fp2", "F3", "F4", "C3", "C4", "Cz", "O1", "O2")
PLACES = dict(zip(NAMES, [(-1, 3), (1, 3), (-2, 2), (2, 2), (-3, 0), (3, 0), (0, 0), (-1, -3), (1, -3)], strict=True))
POSITIONS = {name: [x / 4, y / 4, (1 - (x * x + y * y) / 16) ** 0.5] for name, (x, y) in PLACES.items()}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collects the figures that are saved, without drawing them."""
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *arguments, **named: saved.append(self))
    return saved


def noise(count: int, microvolts: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return microvolts * torch.randn(count, len(NAMES), WINDOW, generator=generator)


@pytest.fixture(scope="module")
def card() -> DatasetCard:
    return card_for("timeseries", noise(20, 40.0), rate=RATE, channels=NAMES, positions=POSITIONS)


def examples(card: DatasetCard, signals: torch.Tensor) -> ExampleSet:
    return ExampleSet(tensors=representation_of(card).to_tensor(signals), card=card)


def traces(figure: Figure, title: str) -> list[Axes]:
    return [axis for axis in figure.axes if axis.get_title() == title]


def test_real_and_generated_windows_have_the_same_scale(card: DatasetCard) -> None:
    rows = [
        SampleGroup(title=f"label: {n}", samples=examples(card, noise(3, 30.0)), real=examples(card, noise(5, 10.0)))
        for n in range(2)
    ]
    figure = trace_figure(rows, title="step 1")

    real, generated = traces(figure, "real"), traces(figure, "generated")
    assert (len(real), len(generated)) == (4, 4)
    assert len({(axis.get_xlim(), axis.get_ylim()) for axis in real + generated}) == 1
    amplitudes = [np.std(np.concatenate([np.diff(line.get_ydata()) for line in axis.get_lines()[:9]])) for axis in
                  (real[0], generated[0])]  # fmt: skip
    assert amplitudes[1] / amplitudes[0] == pytest.approx(3, rel=0.1)
    assert figure.get_suptitle() == "step 1: first 4 s of windows of 6 s"


def test_the_scale_does_not_depend_on_what_a_model_generates(card: DatasetCard) -> None:
    real = examples(card, noise(5, 10.0))
    limits = [
        traces(
            trace_figure([SampleGroup(title="", samples=examples(card, noise(2, size)), real=real)], title=""), "real"
        )
        for size in (0.1, 40.0)
    ]
    assert limits[0][0].get_ylim() == limits[1][0].get_ylim()


def test_maps_of_real_and_generated_bands_share_their_colours(card: DatasetCard) -> None:
    alpha = 20 * torch.sin(2 * np.pi * 10 * torch.arange(WINDOW) / RATE)
    occipital = noise(4, 5.0)
    occipital[:, -2:] += alpha
    group = SampleGroup(title="", samples=examples(card, noise(3, 5.0)), real=examples(card, occipital))
    figure = trace_figure([group], title="")

    maps = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title().split("\n")[0] for axis in maps[:5]] == ["delta", "theta", "alpha", "beta", "gamma"]
    assert [maps[row].get_ylabel() for row in (0, 5)] == ["real", "generated"]
    assert all(
        real.images[0].get_clim() == other.images[0].get_clim() for real, other in zip(maps[:5], maps[5:], strict=True)
    )
    levels = group.sets["real"].bands["alpha"]
    assert levels[-2:] == pytest.approx(10 * np.log10(20**2 / 2), abs=1)  # the power of a sine, dB re 1 µV²
    assert levels[:-2].max() < levels[-2:].min() - 6


def test_windows_without_positions_have_no_maps(card: DatasetCard) -> None:
    unknown = replace(card, positions={})
    figure = trace_figure([SampleGroup(title="", samples=examples(unknown, noise(9, 10.0)))], title="")
    assert not any(axis.images for axis in figure.axes)
    assert len(traces(figure, "generated")) == 4


def test_windows_of_less_than_64_samples_have_no_spectrum(figures: list[Figure], tmp_path: Path) -> None:
    signals = noise(3, 10.0)[..., :50]
    short = card_for("timeseries", signals, rate=RATE, channels=NAMES, positions=POSITIONS)
    draw_samples(tmp_path / "a.png", [SampleGroup(title="", samples=examples(short, signals))], title="")
    assert not any(axis.get_legend() for axis in figures[0].axes)
    bands = [axis.get_title().split("\n")[0] for axis in figures[0].axes if axis.images]
    assert bands == ["delta", "theta", "alpha", "beta", "gamma"]  # 2 Hz apart


def test_real_examples_are_averaged_only_once(card: DatasetCard, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    spectrum = TimeSeries.mean_spectrum
    monkeypatch.setattr(TimeSeries, "mean_spectrum", lambda self, x: (calls.append(len(x)), spectrum(self, x))[1])
    real = examples(card, noise(5, 10.0))
    for _ in range(3):
        trace_figure([SampleGroup(title="", samples=examples(card, noise(2, 10.0)), real=real)], title="")
    assert sorted(calls) == [2, 2, 2, 5]


def test_samples_that_are_not_finite_are_drawn_as_such(card: DatasetCard, figures: list[Figure]) -> None:
    broken = examples(card, torch.full((2, len(NAMES), WINDOW), float("nan")))
    draw_samples(Path("a.png"), [SampleGroup(title="", samples=broken, real=examples(card, noise(2, 9.0)))], title="")
    words = [text.get_text() for axis in traces(figures[0], "generated") for text in axis.texts]
    assert words[0] == "100 % of the values are not finite"


def test_only_six_groups_of_windows_are_drawn_and_the_others_are_counted(card: DatasetCard) -> None:
    groups = [SampleGroup(title=str(n), samples=examples(card, noise(1, 9.0))) for n in range(8)]
    figure = trace_figure(groups, title="a")
    assert len(traces(figure, "generated")) == 6
    assert figure.get_suptitle() == "a: first 4 s of windows of 6 s; 2 more groups are not shown"


def test_reconstructions_are_below_their_originals_on_the_same_scale(
    card: DatasetCard, figures: list[Figure], tmp_path: Path
) -> None:
    original = noise(6, 10.0)
    before, after = examples(card, original), examples(card, original * 2)
    draw_reconstructions(tmp_path / "a.png", before, after, title="")
    axes = [axis for axis in figures[0].axes if not axis.images and not axis.get_legend()]
    assert len(axes) == 8 and len({axis.get_ylim() for axis in axes}) == 1
    assert [axes[0].get_ylabel(), axes[4].get_ylabel()] == ["original", "reconstructed"]
    signal = figures[0].axes[-1]
    assert (signal.get_ylabel(), signal.get_xlabel(), signal.get_xlim()) == ("Fp1, µV", "s", (0, 4))
    assert np.allclose(signal.get_lines()[0].get_ydata(), original[0, 0], atol=1e-4)


@pytest.mark.parametrize(("size", "dpi"), [(64, 100), (128, 100), (256, 166), (1024, 300)])
def test_images_larger_than_their_places_make_the_figure_finer(
    size: int, dpi: int, card: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture, found = Picture(channels=3, size=size), []
    about = {"name": "image", "layout": "picture", "inverse": "none", "parameters": picture.parameters()}
    pictures = replace(card, representation=about, shape=picture.shape, sampling_rate=None, window=None)
    monkeypatch.setattr(Figure, "savefig", lambda self, path, dpi: found.append(round(dpi)))
    samples = ExampleSet(tensors=torch.zeros(1, *picture.shape), card=pictures)
    draw_samples(tmp_path / "a.png", [SampleGroup(title="", samples=samples)], title="")
    assert found == [dpi]


def test_images_are_labelled_at_the_left_and_at_the_bottom(figures: list[Figure], tmp_path: Path) -> None:
    signals = 10 * torch.randn(2, 1, 2048, generator=torch.Generator().manual_seed(0))
    card = card_for("db-only", signals, rate=125.0, channels=("Cz",))
    tensors = representation_of(card).to_tensor(signals)[:, 0]
    groups = [SampleGroup(title=f"label: {n}", samples=ExampleSet(tensors=tensors, card=card)) for n in range(2)]
    draw_samples(tmp_path / "a.png", groups, title="")
    images = [axis for axis in figures[0].axes if axis.images]
    assert [axis.get_ylabel() for axis in images] == ["label: 0\nHz", "", "", "label: 1\nHz", "", ""]
    assert [axis.get_xlabel() for axis in images] == ["", "", "", "s", "s", "s"]
