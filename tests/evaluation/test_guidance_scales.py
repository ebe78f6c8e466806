"""Adherence and fidelity by guidance scale are those of the windows of each scale."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.report import Report
from tests.evaluation.invented import people

TRAIN, REAL, NEW = people(0, 10), people(10, 8), people(20, 8, name="samples")
SHUFFLED = np.random.default_rng(0).permutation(NEW.columns["label"])
BY_SCALE = {
    0.0: dataclasses.replace(NEW, columns={"label": SHUFFLED}),
    1.0: dataclasses.replace(NEW, columns={"label": NEW.columns["label"]}),
    4.0: dataclasses.replace(NEW, signals=1.7 * NEW.signals, columns={"label": NEW.columns["label"]}),
}

pytestmark = pytest.mark.usefixtures("few_figures")


@pytest.fixture(scope="module")
def report() -> Report:
    metrics = ["lsd", "acf", "coverage", "adherence-label", "adherence-gender"]
    return compare_windows(REAL, BY_SCALE[0.0], train=TRAIN, metrics=metrics, guidance=BY_SCALE)


def test_adherence_and_fidelity_are_those_of_each_scale(report: Report) -> None:
    found = {
        scale: {result.metric.name: result.total.value for result in results if result.total}
        for scale, results in report.guidance.items()
    }

    assert list(found) == [0.0, 1.0, 4.0] and list(found[1.0]) == ["lsd", "coverage", "adherence-label"]
    assert found[0.0]["adherence-label"] == pytest.approx(50, abs=12)
    assert found[1.0]["adherence-label"] > 90
    assert found[1.0]["lsd"] == pytest.approx(found[0.0]["lsd"])
    assert found[4.0]["lsd"] > found[1.0]["lsd"] + 1


def test_the_first_scale_has_the_numbers_of_the_report(report: Report) -> None:
    for result in report.guidance[0.0]:
        other = report[result.metric.name]
        assert (result.total, result.interval, result.missing) == (other.total, other.interval, other.missing)


def test_each_class_has_its_adherence_at_each_scale(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path)
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))["guidance"]

    assert set(found) == {"0", "1", "4"} and set(found["1"]["adherence-label"]["labels"]) == {"rest", "task"}
    assert "missing" in found["1"]["adherence-gender"]
    text = report.to_text()
    assert "by guidance scale" in text and "– rest" in text and "Adherence to gender" not in text.split("scale (1")[1]
    page = (tmp_path / "report.html").read_text("utf-8")
    assert '<section id="guidance">' in page and "<h3>Guidance</h3>" in page
