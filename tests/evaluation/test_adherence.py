"""Condition adherence has known values for windows of the asked labels, for shuffled ones and for none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.report import Result
from signal_diffusion.evaluation.windows import Windows
from tests.evaluation.invented import people

TRAIN, REAL, NEW = people(0, 10), people(10, 8), people(20, 8, name="samples")


def judged(metric: str, synthetic: Windows, real: Windows = REAL) -> Result:
    return compare_windows(real, synthetic, train=TRAIN, metrics=[metric])[metric]


def with_column(windows: Windows, **columns: Any) -> Windows:
    return dataclasses.replace(windows, columns=dict(windows.columns) | columns)


def shuffled(name: str) -> Windows:
    return with_column(NEW, **{name: np.random.default_rng(0).permutation(NEW.columns[name])})


def test_windows_of_the_asked_label_adhere_as_real_ones_do() -> None:
    result = judged("adherence-label", NEW)

    assert result.total is not None and result.total.floor is not None
    assert result.total.floor > 90
    assert result.total.value == pytest.approx(result.total.floor, abs=8)
    assert result.verdict == "as real"
    assert set(result.classes) == {"rest", "task"}


def test_shuffled_labels_adhere_by_chance() -> None:
    result = judged("adherence-label", shuffled("label"))

    assert result.total is not None and result.total.value == pytest.approx(50, abs=12)
    assert result.verdict == "differs"


def test_the_ratio_of_adherence_is_of_what_is_above_chance() -> None:
    """Real windows that are hard to tell, 58 %, do not make labels at random, 50 %, as good as real."""
    hard, half = REAL.columns["label"].copy(), NEW.columns["label"].copy()
    for labels, share in ((hard, 0.4), (half, 0.5)):
        swapped = np.random.default_rng(0).permutation(len(labels))[: round(share * len(labels))]
        labels[swapped] = np.where(labels[swapped] == "rest", "task", "rest")
    result = judged("adherence-label", with_column(NEW, label=half), with_column(REAL, label=hard))
    total = result.total
    assert total is not None and total.floor is not None and total.ratio is not None
    assert total.ratio == pytest.approx((total.floor - 50 + 5) / (max(total.value - 50, 0) + 5))
    assert result.verdict != "as real"


def test_swapped_labels_never_adhere() -> None:
    swapped = with_column(NEW, label=np.where(NEW.columns["label"] == "rest", "task", "rest"))

    result = judged("adherence-label", swapped)

    assert result.total is not None and result.total.value < 10
    assert all(estimate.value < 15 for estimate in result.classes.values())


def test_asked_ages_correlate_with_predicted_ones_and_shuffled_ages_do_not() -> None:
    asked, other = (judged("adherence-age", each).total for each in (NEW, shuffled("age")))

    assert asked is not None and other is not None
    assert asked.value > 0.5
    assert abs(other.value) < 0.3


def test_the_error_of_shuffled_ages_is_larger() -> None:
    asked, other = (judged("age-error", each).total for each in (NEW, shuffled("age")))

    assert asked is not None and other is not None
    assert asked.value < 0.7 * other.value


@pytest.mark.parametrize("unknown", [None, np.nan, ""])
def test_windows_with_an_unknown_label_are_left_out(unknown: Any) -> None:
    labels = NEW.columns["label"].astype(object)
    labels[::3] = unknown
    known = NEW.take(np.flatnonzero(np.arange(len(NEW)) % 3))

    some, left = (judged("adherence-label", each).total for each in (with_column(NEW, label=labels), known))

    assert some is not None and left is not None
    assert some.value == pytest.approx(left.value, abs=5)


def test_without_a_request_there_is_no_adherence() -> None:
    nothing = dataclasses.replace(NEW, columns={})

    assert judged("adherence-label", nothing).missing == "samples: label is in no window known or asked for"


def test_a_single_class_cannot_be_judged() -> None:
    rest = NEW.take(np.flatnonzero(NEW.columns["label"] == "rest"))

    assert judged("adherence-label", rest).missing == "only one label was asked for; at least two are needed"


def test_a_label_that_real_windows_do_not_show_cannot_be_judged() -> None:
    random = np.random.default_rng(0).permutation(REAL.columns["label"])

    assert (
        "which is too little to judge others by"
        in judged("adherence-label", NEW, with_column(REAL, label=random)).missing
    )


def test_without_training_data_there_is_no_adherence() -> None:
    report = compare_windows(REAL, NEW, metrics=["adherence-label"])

    assert report["adherence-label"].missing == "no training data is given; use --train"
