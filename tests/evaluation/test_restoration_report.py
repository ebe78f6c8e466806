"""A report on restoration has intervals over people, paired differences, and the same values in all its files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.evaluation.restoration.judging import MODEL, rows_of
from signal_diffusion.evaluation.restoration.metrics import METRICS, POWER
from signal_diffusion.evaluation.restoration.report import Restoration

PEOPLE = np.repeat([f"sub-{number}" for number in range(12)], 2)
ABOUT = {
    "checkpoint": "run/checkpoint-5",
    "given": "trained with masks",
    "real": "data:test",
    "windows": 24,
    "people": 12,
    "draws": 16,
    "sampling": {"steps": 25},
}


def metrics(nmse: np.ndarray, power: np.ndarray | float = 1.0) -> dict[str, np.ndarray]:
    """All metrics of the windows, those other than NMSE the same."""
    found = {name: np.full(len(nmse), np.nan if name == "coverage" else 0.5) for name in METRICS}
    return found | {"nmse": nmse, POWER: np.broadcast_to(power, len(nmse))}


def of_people(*, better: float) -> Restoration:
    """Windows that differ much more from each other than the model differs from splines; ridge is like the model."""
    hardness, noise = np.random.default_rng(0).uniform(0.2, 2, len(PEOPLE)), np.random.default_rng(1)
    found = {
        "splines": metrics(hardness + better + 0.01 * noise.standard_normal(len(PEOPLE))),
        "ridge": metrics(hardness + 0.1 * noise.standard_normal(len(PEOPLE))),
        MODEL: metrics(hardness),
    }
    return Restoration(about=ABOUT, rows=rows_of({"30 % of electrodes": found}, PEOPLE), notes=["a note"])


def test_a_difference_is_found_by_pairing_where_windows_differ_more_than_methods() -> None:
    [sentence] = of_people(better=0.1).sentences()

    assert sentence.startswith("30 % of electrodes: the model's NMSE is ")
    assert "; better than splines by 0.10 (" in sentence
    assert "no difference from ridge shown" in sentence


def test_where_the_model_is_worse_the_report_says_so() -> None:
    assert "worse than splines by 0.10" in of_people(better=-0.1).sentences()[0]


def test_a_person_counts_once_whatever_the_number_of_windows() -> None:
    people = np.array(["a", "a", "a", "b", "c"])
    rows = rows_of({"gap": {MODEL: metrics(np.array([1.0, 1.0, 1.0, 4.0, 4.0]))}}, people)

    value, interval = rows[0].estimates["nmse"]
    assert value == pytest.approx(3.0)
    assert interval is not None and interval[0] == pytest.approx(1.0) and interval[1] == pytest.approx(4.0)


def test_the_error_of_a_person_is_that_of_all_windows_over_their_power() -> None:
    people, power = np.array(["a", "a", "b", "b", "c"]), np.array([9.0, 1.0, 5.0, 0.0, 5.0])
    rows = rows_of({"gap": {MODEL: metrics(np.array([0.5, 8.5, 1.0, np.nan, 1.0]), power)}}, people)

    assert rows[0].estimates["nmse"][0] == pytest.approx(((9 * 0.5 + 8.5) / 10 + 1 + 1) / 3)


def test_two_people_have_no_interval() -> None:
    [row] = rows_of({"gap": {MODEL: metrics(np.array([1.0, 2.0]))}}, np.array(["a", "b"]))

    assert row.estimates["nmse"] == (1.5, None)


def test_draws_that_are_not_finite_are_no_number() -> None:
    rows = rows_of({"gap": {"linear": metrics(np.ones(24)), MODEL: metrics(np.full(24, np.nan))}}, PEOPLE)
    report = Restoration(about=ABOUT, rows=rows)

    assert report.sentences() == ["gap: the model's NMSE could not be measured: its draws are not finite"]
    assert report.to_dict()["rows"][1]["nmse"]["value"] is None


def test_files_have_the_same_values(tmp_path: Path) -> None:
    report = of_people(better=0.1)

    files = report.save(tmp_path / "report")

    assert [file.name for file in files] == ["report.json", "report.csv", "report.md"]
    written = json.loads(files[0].read_text())
    rows = list(csv.DictReader(files[1].open()))
    [nmse] = [row for row in rows if (row["method"], row["metric"]) == ("ridge", "nmse")]
    assert float(nmse["value"]) == written["rows"][1]["nmse"]["value"]
    assert float(nmse["high"]) == written["rows"][1]["nmse"]["interval"][1]
    assert not [row for row in rows if row["metric"] == "coverage"]
    assert f"| 30 % of electrodes | ridge | {written['rows'][1]['nmse']['value']:.2f} (" in files[2].read_text()
    assert "- note: a note" in files[2].read_text()


def test_the_table_fits_a_terminal() -> None:
    lines = of_people(better=0.1).to_text().splitlines()

    assert max(map(len, lines)) <= 110
    assert any(line.split()[:1] == ["ridge"] and line.split()[-3:] == ["0.50", "–", "0.50"] for line in lines)
