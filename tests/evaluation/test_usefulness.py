"""TSTR has known values for training windows as synthetic ones, for other people and for shuffled labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import Windows
from tests.evaluation.invented import people

TRAIN, REAL, NEW = people(0, 10), people(10, 8), people(20, 20, name="samples")


def report(synthetic: Windows, metric: str = "tstr-label", **options: Any) -> Report:
    return compare_windows(REAL, synthetic, metrics=[metric], **{"train": TRAIN} | options)


def with_column(windows: Windows, **columns: Any) -> Windows:
    return dataclasses.replace(windows, columns=dict(windows.columns) | columns)


def shuffled(name: str, seed: int = 0) -> Windows:
    return with_column(NEW, **{name: np.random.default_rng(seed).permutation(NEW.columns[name])})


@pytest.mark.parametrize("metric", ["tstr-label", "tstr-age"])
def test_training_windows_as_synthetic_ones_are_of_as_much_use_as_they_are(metric: str) -> None:
    copies = report(dataclasses.replace(TRAIN, name="copies"), metric)[metric]

    assert copies.total is not None
    assert copies.total.value == pytest.approx(copies.total.floor, abs=1e-6)
    assert copies.total.ratio == pytest.approx(1)


def test_windows_of_other_people_are_of_use() -> None:
    found = report(NEW)

    assert found["tstr-label"].total.value > 0.9
    assert found.verdicts()["use"][0] == "as real"


def test_shuffled_labels_are_of_no_use_and_the_verdict_says_so() -> None:
    values = [report(shuffled("label", seed))["tstr-label"].total.value for seed in range(6)]
    found = report(shuffled("label"))

    assert np.mean(values) == pytest.approx(0.5, abs=0.2)
    verdict, why = found.verdicts()["use"]
    assert verdict == "differs"
    assert why.startswith("TSTR, label, ratio ")


def test_swapped_labels_are_not_better_than_a_guess() -> None:
    labels = np.where(NEW.columns["label"] == "rest", "task", "rest")
    total = report(with_column(NEW, label=labels))["tstr-label"].total

    assert total is not None and total.value < 0.1
    assert total.ratio == pytest.approx((total.floor - 0.5 + 0.05) / 0.05)


def test_without_training_data_the_floor_is_that_of_other_real_people() -> None:
    assert report(NEW, train=None)["tstr-label"].verdict == "as real"


REASONS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no label": ({"label": [""] * len(NEW)}, "tstr-label", "samples: label is known of no windows; at least 20"),
    "one label": ({"label": ["rest"] * len(NEW)}, "tstr-label", "samples: only label rest; a classifier needs at"),
    "rare": ({"label": ["rest"] * (len(NEW) - 2) + ["task"] * 2}, "tstr-label", "samples: 2 windows of label task"),
    "other": ({"label": ["sleep"] * len(NEW)}, "tstr-label", "samples: no label that real windows have"),
    "not a number": ({"age": ["old"] * len(NEW)}, "tstr-age", "samples: column age has values that are not numbers"),
    "no gender": ({}, "tstr-gender", "windows: gender is known of no windows"),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_cannot_be_trained_on_is_a_reason(case: str) -> None:
    columns, metric, reason = REASONS[case]
    found = report(with_column(NEW, **{name: np.array(values) for name, values in columns.items()}), metric)

    assert found[metric].total is None
    assert found[metric].missing.startswith(reason)
    assert found.verdicts()["use"][0] == "missing"


def test_labels_that_real_windows_do_not_show_are_a_reason() -> None:
    random = np.random.default_rng(3)
    real, train = (with_column(each, label=random.permutation(each.columns["label"])) for each in (REAL, TRAIN))
    found = compare_windows(real, NEW, train=train, metrics=["tstr-label"])["tstr-label"]

    assert found.total is None
    assert "with real windows, which is too little to judge others by; at least 0.55 is needed" in found.missing
