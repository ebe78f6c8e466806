"""Re-identification and copies have known values for windows of one training person, of all, and of new people."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.reidentification import halves, recognised, training_people
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import Windows
from tests.evaluation.invented import CH_NAMES, SFREQ, people

TRAIN, REAL, NEW = people(0, 8), people(10, 8), people(20, 8)
METRICS = ("copies", "nn-ratio", "reid-entropy", "reid-top1", "reid-confidence")


def judged(synthetic: Windows, train: Windows = TRAIN) -> Report:
    return compare_windows(REAL, synthetic, train=train, metrics=METRICS)


def values(report: Report) -> dict[str, float]:
    return {result.metric.name: result.total.value for result in report.results if result.total}


def test_windows_of_one_training_person_are_all_taken_for_that_person() -> None:
    found = values(judged(TRAIN.take(np.flatnonzero(TRAIN.subjects == "sub-3"))))

    assert found["reid-top1"] == 100
    assert found["reid-entropy"] < 0.3
    assert found["reid-confidence"] > 80


def test_windows_of_all_training_people_are_taken_for_them_evenly_and_surely() -> None:
    report = judged(TRAIN)
    found, sureness = values(report), report["reid-confidence"].total

    assert found["reid-top1"] == pytest.approx(100 / 8)
    assert found["reid-entropy"] == pytest.approx(1, abs=0.02)
    assert sureness is not None and sureness.ratio is not None and sureness.ratio > 1.2


def test_new_people_are_as_real() -> None:
    report = judged(NEW)

    assert {name: report[name].verdict for name in METRICS if report[name].verdict == "differs"} == {}


def test_training_people_are_recognised_at_another_time() -> None:
    assert recognised(Features(TRAIN)).share > 0.9


def test_people_who_cannot_be_recognised_cannot_be_judged_by() -> None:
    random = np.random.default_rng(0).permutation(TRAIN.columns["subject"])
    mixed = dataclasses.replace(TRAIN, columns={"subject": random})

    with pytest.raises(Unavailable, match="which is too little to judge others by"):
        training_people(Features(mixed))


def test_training_windows_without_people_give_no_reidentification() -> None:
    nameless = dataclasses.replace(TRAIN, columns={})

    missing = judged(NEW, nameless)["reid-top1"].missing

    assert missing == "the training windows are not of two people or more, by a column subject"


def test_halves_are_the_first_and_the_second_half_of_each_recording() -> None:
    windows = Windows(
        signals=np.zeros((7, 1, 8)),
        sfreq=SFREQ,
        ch_names=CH_NAMES[:1],
        columns={
            "subject": np.array(["a"] * 5 + ["b"] * 2),
            "recording": np.array(["a1"] * 4 + ["a2"] + ["b1", "b2"]),
            "window": np.array([3, 1, 0, 2, 0, 0, 0]),
        },
    )

    assert halves(windows).tolist() == [1, 0, 0, 1, 1, 0, 1]


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_copies_are_found_with_and_without_a_shift(seconds: float) -> None:
    shift = round(seconds * SFREQ)
    moved = dataclasses.replace(TRAIN, signals=np.roll(TRAIN.signals, shift, axis=-1))

    found = judged(moved)

    assert values(found)["copies"] == 100
    assert found["copies"].verdict == "differs"
    assert found["nn-ratio"].verdict == "differs"
