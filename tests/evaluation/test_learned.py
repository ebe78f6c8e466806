"""The distance in the features of an EEGNet that is trained on the training windows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from signal_diffusion.evaluation import learned
from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.report import Result
from signal_diffusion.evaluation.windows import Windows
from tests.evaluation.invented import people

pytest.importorskip("braindecode")
TRAIN, REAL, NEW = people(100, 8), people(10, 8), people(20, 8, name="samples")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal_diffusion.evaluation.utility.eegnet.MAX_EPOCHS", 3)
    monkeypatch.setattr("signal_diffusion.evaluation.utility.eegnet.LEARNING_RATE", 1e-2)


def judged(synthetic: Windows = NEW, train: Windows | None = TRAIN) -> Result:
    return compare_windows(REAL, synthetic, train=train, metrics=["eegnet-fd"])["eegnet-fd"]


def with_labels(windows: Windows, labels: np.ndarray) -> Windows:
    return dataclasses.replace(windows, columns=dict(windows.columns) | {"label": labels})


def test_other_people_are_near_the_floor_and_louder_windows_far_from_it() -> None:
    louder = dataclasses.replace(NEW, signals=4 * NEW.signals)
    others, loud = judged(NEW), judged(louder)

    assert others.total is not None and others.total.ratio == pytest.approx(1, abs=0.6)
    assert loud.total is not None and loud.total.ratio is not None
    assert loud.total.ratio > 3 and loud.verdict == "differs"


def test_the_real_windows_are_at_no_distance_from_themselves() -> None:
    total = judged(dataclasses.replace(REAL, columns={})).total

    assert total is not None and total.value == pytest.approx(0, abs=1e-3)


def test_the_result_is_repeated_without_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    first = judged().total
    monkeypatch.setattr(learned, "from_cache", lambda key, name, compute: compute())

    assert judged().total == first


def test_a_second_comparison_trains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = judged().total
    monkeypatch.setattr(learned, "train_eegnet", None)

    assert judged().total == first


def test_other_labels_of_the_same_training_windows_give_another_extractor() -> None:
    shuffled = with_labels(TRAIN, np.random.default_rng(0).permutation(TRAIN.columns["label"]))
    first, second = judged().total, judged(train=shuffled).total

    assert first is not None and second is not None and first.value != second.value


@pytest.mark.parametrize(
    ("train", "reason"),
    [
        (None, "no training data is given; use --train"),
        (with_labels(TRAIN, np.full(len(TRAIN), "rest")), "do not have two values of label"),
        (dataclasses.replace(TRAIN, columns={"subject": TRAIN.columns["subject"]}), "do not have two values of label"),
    ],
)
def test_without_two_labels_to_train_for_there_is_no_distance(train: Windows | None, reason: str) -> None:
    assert reason in judged(train=train).missing


def test_without_braindecode_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "find_spec", lambda name: None)

    assert judged().missing == "braindecode is not installed; install the extra: uv sync --extra evaluation"


def test_too_few_windows_have_no_distance() -> None:
    assert judged(NEW.take(np.arange(40))).missing == "40 synthetic windows; at least 65 are needed"
