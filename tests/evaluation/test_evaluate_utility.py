"""`evaluate utility` measures what is in folders, prints it and writes it."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.cli.evaluate_utility import check_start
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.controls import CONTROLS
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.evaluation.utility.arms import Plan
from signal_diffusion.evaluation.utility.evaluating import evaluate_utility
from signal_diffusion.evaluation.utility.measuring import measure_utility
from signal_diffusion.evaluation.utility.result import Row, Utility
from signal_diffusion.evaluation.utility.verdicts import with_utility
from tests.evaluation.invented import people

pytest.importorskip("braindecode")
TRAIN, REAL = people(0, 10), people(10, 8)
ONE = Plan(shares=(1.0,), ratios=(1.0,), augmentations=())

pytestmark = pytest.mark.usefixtures("few_figures")


@pytest.fixture(scope="module")
def eeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of ten people, `data`, and phase-randomised windows of its training people, `samples`."""
    import mne
    import pandas as pd

    from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic

    root = tmp_path_factory.mktemp("utility")
    options = SyntheticOptions(num_subjects=10, num_windows=3, window=256)
    prepare_synthetic(root / "data", "timeseries", options)
    train = read_dataset(root / "data", "train")
    made = CONTROLS["phases randomised, shared"](train, np.random.default_rng(0))
    metadata = pd.DataFrame({name: made.columns[name] for name in ("label", "gender")})
    info = mne.create_info(list(made.ch_names), made.sfreq, "eeg")
    (root / "samples").mkdir()
    epochs = mne.EpochsArray(1e-6 * made.signals, info, metadata=metadata, verbose="error")
    epochs.save(root / "samples" / "samples-epo.fif", verbose="error")
    return root


def test_the_command_prints_tables_and_writes_files(eeg: Path) -> None:
    output = eeg / "out"
    words = ["evaluate", "utility", str(eeg / "samples"), "--real", str(eeg / "data"), "--output", str(output)]
    result = CliRunner().invoke(app, [*words, "--classifiers", "logreg", "--seeds", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for expected in (
        "predicted: label, one of alert, relaxed",
        "synthetic → real (TSTR)",
        "1 × FTSurrogate",
        "utility.json, utility.csv, utility.png",
        "–: T + 2 S: 96 synthetic windows are needed for 8 people, there are 48",
        "note: people to test on: 1",
    ):
        assert expected in result.output
    found = json.loads((output / "utility.json").read_text())
    with (output / "utility.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["arm"] for row in rows] == [row["arm"] for row in found["rows"]]
    assert (output / "utility.png").read_bytes()[:4] == b"\x89PNG"
    again = CliRunner().invoke(app, words)
    assert isinstance(again.exception, UserError) and "already exists" in str(again.exception)


def test_a_score_that_the_people_tested_do_not_have_is_a_reason(eeg: Path) -> None:
    found = evaluate_utility(eeg / "samples", str(eeg / "data"), task="gender", classifiers=["logreg"], seeds=1)
    row = found.row("logreg", "TRTR")
    assert (row.value, row.missing) == (None, "AUC needs test windows of every class")
    assert "logreg: the gain in AUC could not be measured" in found.sentences()[0]
    assert "–" in found.to_text()


@pytest.mark.parametrize(("labels", "verdict", "words"), [("right", "as real", "help"), ("swapped", "differs", "harm")])
def test_a_gain_is_the_verdict_on_use_and_its_curves_are_on_the_page(
    tmp_path: Path, labels: str, verdict: str, words: str
) -> None:
    report = compare_windows(TRAIN, REAL, metrics=["tstr-label", "unusable"])
    gain = {"right": (0.1, 0.05, 0.2), "swapped": (-0.1, -0.2, -0.05)}[labels]
    row = Row(classifier="logreg", arm="T + 1 S", added="S", ratio=1, score="auc", value=0.8, gain=gain[0])
    row = dataclasses.replace(row, gain_interval=gain[1:])
    alone = Row(classifier="logreg", arm="T", score="auc", value=0.8, interval=(0.7, 0.9))
    found = Utility(task="label", classes=("rest", "work"), about={"seeds": 5}, rows=[alone, row])
    both = with_utility(report, found)

    assert both.verdicts()["use"] == (verdict, f"Gain, label, {found.sentences()[0]}")
    assert f"{gain[0]:+.3f}" in both.to_text() and f"synthetic data {words}" in both.to_text()
    both.save(tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert f"</span> {words}s</span>" in page
    assert "<h3>Use to classifiers</h3>\n<img" in page
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["metrics"]["gain-label-logreg"]["value"] == gain[0]


def test_gains_are_no_rows_of_the_controls(tmp_path: Path) -> None:
    report = compare_windows(TRAIN, REAL, metrics=["lsd"], controls=True, train=people(20, 8))
    row = Row(classifier="logreg", arm="T + 1 S", added="S", ratio=1, score="auc", value=0.8, gain=0.1)
    both = with_utility(report, Utility(task="label", classes=("rest", "work"), about={"seeds": 5}, rows=[row]))
    assert [result.metric.name for result in both.of_controls()] == ["lsd"]
    both.save(tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Gain, label" not in page.split('<section id="controls">')[1].split("</section>")[0]
    assert "Gain, label, logreg" in both.to_text()


def prepared(real_data: Path, output: Path, *options: str) -> Path:
    words = ["prepare", str(real_data / "eegmat"), "--output", str(output), "--representation", "timeseries"]
    result = CliRunner().invoke(app, [*words, "--label", "task", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return output


@pytest.mark.slow
@pytest.mark.real_data
def test_rest_and_arithmetic_of_people_not_trained_on_are_told_apart_as_published(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_diffusion.evaluation.utility.measuring.FULL", ONE)
    root = prepared(real_data, tmp_path / "eegmat", "--rate", "125", "--window", "2048", "--overlap", "0.5")
    everybody = read_dataset(root, None)
    found = measure_utility(everybody, everybody, everybody, classifiers=["logreg"])
    assert found.about["folds"] == 5
    assert found.row("logreg", "TRTR").value == pytest.approx(0.81, abs=0.02)
    assert found.row("logreg", "TSTR").value == pytest.approx(0.81, abs=0.02)
    gender = measure_utility(everybody, everybody, everybody, task="gender", classifiers=["logreg"])
    assert gender.row("logreg", "TRTR", score="balanced accuracy").value == pytest.approx(0.71, abs=0.05)


@pytest.mark.slow
@pytest.mark.real_data
def test_the_subject_lists_of_open_eeg_bench_are_those_of_a_dataset(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signal_diffusion.evaluation.utility.measuring.FULL", ONE)
    lists = {"train": range(28), "validation": range(28, 32), "test": range(32, 36)}
    people = {split: [f"sub-{number:02}" for number in numbers] for split, numbers in lists.items()}
    (tmp_path / "splits.json").write_text(json.dumps(people))
    options = ["--rate", "100", "--window", "500", "--overlap", "0", "--band", "0.5", "45"]
    root = prepared(real_data, tmp_path / "eegmat", *options, "--splits-from", str(tmp_path / "splits.json"))
    train, test = read_dataset(root, "train"), read_dataset(root, "test")
    assert (train.people, test.people) == (people["train"], people["test"])
    assert train.signals.shape[1:] == (19, 500)
    found = measure_utility(train, test, train, classifiers=["logreg"], seeds=1)
    assert found.about["folds"] == 1
    assert 0.5 < found.row("logreg", "TRTR").value < 1


def test_evaluate_refuses_to_do_everything_once_per_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="evaluate works in one process"):
        check_start(tmp_path / "report")
