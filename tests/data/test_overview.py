"""`data show`: summary, shares before and after balancing, and a figure of every representation."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure
from typer.testing import CliRunner

from signal_diffusion import cli
from signal_diffusion.cli import app
from signal_diffusion.config.data_tables import Balancing
from signal_diffusion.data import balancing, overview
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.errors import UserError
from signal_diffusion.figures.dataset import draw_overview

FEW = SyntheticOptions(num_subjects=4, num_windows=1)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collects the figures that are saved."""
    saved: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kwargs: (saved.append(self), save(self, *args, **kwargs))
    )
    return saved


def test_summary_of_a_card(synthetic_dataset: Path) -> None:
    rows = dict(overview.describe(DatasetCard.load(synthetic_dataset)))
    assert rows["representation"] == "db-only, layout electrode, 1×64×64"
    assert rows["windows"] == "2048 samples at 125 Hz, 16.38 s"
    assert rows["turns back"] == "to microvolts, with an estimated phase"
    assert rows["electrodes"].startswith("19: Fp1 Fp2")
    assert "level at value -1, dB re 1 µV" in rows


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("linear", {"rows below 4 Hz": "5 of 64"}),
        ("log", {"rows below 4 Hz": "22 of 64", "rows per octave": "10.6"}),
        (None, {}),
    ],
)
def test_summary_of_a_mosaic_counts_rows_of_slow_rhythms(
    synthetic_dataset: Path, frequency: str | None, expected: dict[str, str]
) -> None:
    card = DatasetCard.load(synthetic_dataset)
    if frequency is not None:
        pictures = PictureOptions(layout="mosaic", frequency=frequency)
        options = {"sampling_rate": 125.0, "window": 2048, "pictures": pictures}
        fitted = REPRESENTATIONS["db-only"].fit([torch.randn(2, 19, 2048)], **options)
        mosaic = {"layout": "mosaic", "parameters": fitted.parameters()}
        card = replace(card, representation=card.representation | mosaic)
    rows = dict(overview.describe(card))
    assert {name: rows[name] for name in ("rows below 4 Hz", "rows per octave") if name in rows} == expected


def test_the_default_maximum_weight_is_the_same_everywhere() -> None:
    assert cli.data.MAX_WEIGHT == balancing.DEFAULT_MAX_WEIGHT == Balancing().max_weight


def test_balancing_by_combinations_balances_each_column(synthetic_dataset: Path) -> None:
    found = overview.balanced_marginals(synthetic_dataset, ["gender", "label"], 10.0)
    assert found.groups == 4 and found.lightest < 1 < found.heaviest
    gender = found.marginals["gender"]
    assert gender["female"]["share"] != 0.5 and gender["female"]["balanced"] == pytest.approx(0.5, abs=1e-4)
    assert "electrode" not in found.marginals and "health" in found.marginals


def test_max_weight_limits_the_weights(synthetic_dataset: Path) -> None:
    assert overview.balanced_marginals(synthetic_dataset, ["gender"], 1.0).heaviest == 1.0


def test_balancing_by_a_numeric_column_is_an_error(synthetic_dataset: Path) -> None:
    with pytest.raises(UserError, match="--balance age: not a categorical column of"):
        overview.balanced_marginals(synthetic_dataset, ["gender", "age"], 10.0)


def test_columns_are_read_as_names(synthetic_dataset: Path) -> None:
    frame = overview.read_columns(synthetic_dataset, "train", ["label", "electrode", "age"])
    assert len(frame) == 228 and set(frame["label"]) == {"alert", "relaxed"}
    assert frame["electrode"][:2].tolist() == ["Fp1", "Fp2"] and frame["age"].dtype.kind == "f"


def test_rows_are_counted_without_columns(synthetic_dataset: Path) -> None:
    assert len(overview.read_columns(synthetic_dataset, "train", [])) == 228


def test_the_figure_shows_different_subjects_and_their_spectra(
    synthetic_dataset: Path, tmp_path: Path, figures: list[Figure]
) -> None:
    draw_overview(synthetic_dataset, tmp_path / "a.png", num=3)
    draw_overview(synthetic_dataset, tmp_path / "b.png", num=3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    *examples, spectrum = figures[0].axes
    titles = [axis.get_title() for axis in examples]
    assert len(set(titles)) == 3 and titles[:3] == titles[3:] and all(title.endswith(" O1") for title in titles)
    names = [line.get_label() for line in spectrum.get_lines()]
    assert names == ["alert, posterior", "alert, others", "relaxed, posterior", "relaxed, others"]


@pytest.mark.parametrize("layout", ["electrode", "mosaic", "window"])
def test_alpha_of_relaxed_subjects_is_visible_over_posterior_electrodes(
    tmp_path: Path, figures: list[Figure], layout: str
) -> None:
    name, pictures = (
        ("timeseries", PictureOptions()) if layout == "window" else ("db-iq", PictureOptions(layout=layout))
    )
    prepare_synthetic(tmp_path / "data", name, replace(FEW, pictures=pictures))
    draw_overview(tmp_path / "data", tmp_path / "data.png", num=2)
    [spectrum] = [axis for axis in figures[0].axes if axis.get_xlabel() == "Hz"]
    lines = {line.get_label(): line for line in spectrum.get_lines()}

    def alpha(label: str) -> float:
        hertz, level = np.asarray(lines[label].get_xdata()), np.asarray(lines[label].get_ydata())
        return float(level[(hertz >= 8) & (hertz <= 12)].mean())

    assert alpha("relaxed, posterior") > alpha("alert, posterior") + 3
    assert alpha("relaxed, posterior") > alpha("relaxed, others") + 3


def test_time_series_are_traces_on_one_scale_with_maps_per_label(tmp_path: Path, figures: list[Figure]) -> None:
    prepare_synthetic(tmp_path / "data", "timeseries", FEW)
    draw_overview(tmp_path / "data", tmp_path / "data.png", num=2)
    figure = figures[0]
    traces = [axis for axis in figure.axes if axis.get_title().startswith("sub-")]
    assert len(traces) == 4 and len({(axis.get_xlim(), axis.get_ylim()) for axis in traces}) == 1
    assert [text.get_text().endswith("µV, 1 s ") for axis in traces for text in axis.texts] == [True]
    maps = [axis for axis in figure.axes if axis.images]
    assert len(maps) == 10 and [maps[0].get_ylabel(), maps[5].get_ylabel()] == ["alert", "relaxed"]
    assert figure.get_suptitle().endswith("first 4 s of windows of 16.4 s")


def test_zero_hertz_is_at_the_bottom_and_time_is_in_seconds(
    synthetic_dataset: Path, tmp_path: Path, figures: list[Figure]
) -> None:
    draw_overview(synthetic_dataset, tmp_path / "a.png", num=1)
    lowest = figures[0].axes[1]
    assert [tick.get_text() for tick in lowest.get_yticklabels()] == ["0", "20", "40", "60"]
    assert lowest.get_yticks().tolist() == [0, 20, 40, 60] and lowest.get_ylim()[0] < lowest.get_ylim()[1]
    assert lowest.get_xlabel() == "s" and lowest.get_xlim() == (0, 2048 / 125)


def test_strips_of_a_mosaic_are_labelled_with_electrodes(tmp_path: Path, figures: list[Figure]) -> None:
    prepare_synthetic(tmp_path / "data", "db-only", replace(FEW, pictures=PictureOptions(layout="mosaic")))
    draw_overview(tmp_path / "data", tmp_path / "data.png", num=1)
    axis = figures[0].axes[1]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == list(DatasetCard.load(tmp_path / "data").channels)
    assert axis.get_xticks()[:2].tolist() == [0.5, 1.5] and axis.get_xlim()[1] == pytest.approx(
        64 / 3
    )  # 3 columns each


def test_converted_images_have_no_spectrum(synthetic_dataset: Path, tmp_path: Path, figures: list[Figure]) -> None:
    root = tmp_path / "data"
    shutil.copytree(synthetic_dataset, root)
    kind = Picture(channels=1, size=64)
    representation = {"name": "image", "layout": "picture", "inverse": "none", "column": "image"}
    card = replace(
        DatasetCard.load(root),
        representation=representation | {"parameters": kind.parameters()},
        sampling_rate=None,
        window=None,
        channels=(),
        unit=None,
    )
    card.save(root)
    result = CliRunner().invoke(app, ["data", "show", str(root), "--num", "2"], catch_exceptions=False)
    assert result.exit_code == 0 and "not to microvolts" in result.stdout
    assert len(figures[0].axes) == 4 and (tmp_path / "data.png").stat().st_size > 1000


def test_the_command_prints_tables_and_the_name_of_its_figure(synthetic_dataset: Path, tmp_path: Path) -> None:
    arguments = ["data", "show", str(synthetic_dataset), "--output", str(tmp_path / "a.png"), "--num", "1"]
    result = CliRunner().invoke(app, [*arguments, "--balance", "gender"], catch_exceptions=False)
    assert result.exit_code == 0 and f"{tmp_path}/a.png" in result.stdout
    rows = pq.read_metadata(synthetic_dataset / "train" / "00000.parquet").num_rows
    assert f"{rows}" in result.stdout and "balanced by gender" in result.stdout
    assert "─" not in result.stdout and "\x1b" not in result.stdout  # not a terminal


def test_an_option_without_effect_is_an_error(synthetic_dataset: Path) -> None:
    with pytest.raises(UserError, match="--max-weight has no effect without --balance"):
        CliRunner().invoke(app, ["data", "show", str(synthetic_dataset), "--max-weight", "3"], catch_exceptions=False)


@pytest.mark.parametrize("output", ["picture.xyz", "."])
def test_the_output_must_be_a_png(synthetic_dataset: Path, tmp_path: Path, output: str):
    result = CliRunner().invoke(app, ["data", "show", str(synthetic_dataset), "--output", str(tmp_path / output)])
    assert isinstance(result.exception, UserError)
    assert "expected the name of a PNG file" in str(result.exception)
