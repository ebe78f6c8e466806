"""Re-identification: whom of the training people a classifier takes windows for, and how sure it is.

Windows of people who were not trained on are the floor: a classifier takes them for some training people, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from signal_diffusion.evaluation.detection import linear_classifier
from signal_diffusion.evaluation.distribution import second_order_features
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric
from signal_diffusion.evaluation.windows import Windows

__all__ = ["METRICS", "Recognition", "halves", "recognised", "training_people"]

LEAST_RECOGNISED = 3.0
"""Times chance that training people have to be recognised, so that others can be judged by it."""


class Recognition(NamedTuple):
    """How well the training people are recognised in windows of another time."""

    share: float
    """Of windows, of which the most likely person is the right one."""
    confidence: float
    """Mean probability of the most likely person."""


def training_people(train: Features) -> Callable[[Features], None]:
    """A classifier of the training people (a `measurement.Relate`): features know its probabilities `person` (N, K)."""
    share, chance = recognised(train).share, 1 / len(train.people)
    if share < LEAST_RECOGNISED * chance:
        raise Unavailable(
            f"a classifier recognises the training people in {100 * share:.0f} % of their windows of another time "
            f"({100 * chance:.0f} % by chance), which is too little to judge others by"
        )
    classifier = linear_classifier().fit(second_order_features(train), train.subjects)

    def add(features: Features) -> None:
        features.know("person", classifier.predict_proba(second_order_features(features)).astype(np.float32))

    return add


def recognised(train: Features) -> Recognition:
    """How well a classifier of windows of one half of the time recognises the same people in the other half."""
    return train.once("recognised", _recognised)


def _recognised(train: Features) -> Recognition:
    subjects = train.subjects
    if subjects is None or len(train.people) < 2:
        raise Unavailable("the training windows are not of two people or more, by a column subject")
    half, x, right = halves(train.windows), second_order_features(train), []
    confidence = []
    for tested in (0, 1):
        fitted = np.flatnonzero(half != tested)
        judged = np.flatnonzero((half == tested) & np.isin(subjects, subjects[fitted]))
        if len(np.unique(subjects[fitted])) < 2 or not len(judged):
            raise Unavailable("too few training windows of each person; at least two of each are needed")
        classifier = linear_classifier().fit(x[fitted], subjects[fitted])
        probabilities = classifier.predict_proba(x[judged])
        right.append(classifier.classes_[probabilities.argmax(1)] == subjects[judged])
        confidence.append(probabilities.max(1))
    return Recognition(*(float(np.concatenate(each).mean()) for each in (right, confidence)))


def halves(windows: Windows) -> np.ndarray:
    """0 for the first half of the time of each recording and 1 for the second, (N,).

    Neighbouring windows are alike for other reasons than the person, so that they must not be spread over both halves.
    Recordings of a single window are in turn in one and the other.
    """
    count, people = len(windows), np.asarray(windows.subjects)
    recordings = windows.column("recording")
    recordings = np.array([""] * count) if recordings is None else recordings
    order = np.argsort(np.asarray(windows.columns.get("window", np.arange(count)), float), kind="stable")
    found = np.zeros(count, int)
    for person in windows.people:
        for number, name in enumerate(np.unique(recordings[people == person])):
            rows = order[(people == person)[order] & (recordings[order] == name)]
            found[rows] = number % 2 if len(rows) == 1 else np.arange(len(rows)) * 2 // len(rows)
    return found


def entropy(real: Features, synthetic: Features) -> Measurement:
    """Entropy of the mean probabilities ÷ logarithm of the number of people."""
    mean = synthetic.person.astype(np.float64).mean(0)
    mean /= mean.sum()
    positive = mean[mean > 0]
    return Measurement(value=float(-(positive * np.log(positive)).sum() / np.log(len(mean))))


def top_share(real: Features, synthetic: Features) -> Measurement:
    """Share of windows that are taken for the person that most are taken for, %."""
    return Measurement(value=float(100 * np.bincount(synthetic.person.argmax(1)).max() / len(synthetic)))


def confidence(real: Features, synthetic: Features) -> Measurement:
    """Mean probability of the most likely person, %."""
    return Measurement(value=float(100 * synthetic.person.max(1).mean()))


CLASSIFIER = (
    "logistic regression (C = 0.1) on log10 band power and log-covariance, trained to tell the training people apart"
)
METRICS = (
    Metric(
        name="reid-entropy",
        title="Entropy of people",
        question="copies",
        better="larger",
        against_train=training_people,
        definition=f"Entropy of the mean probabilities of the training people by {CLASSIFIER}, ÷ its largest value: 1 "
        "if windows resemble all of them equally, 0 if only one.",
        compute=entropy,
    ),
    Metric(
        name="reid-top1",
        title="Share of one person",
        unit="%",
        question="copies",
        against_train=training_people,
        definition=f"Share of windows whose most likely person is the most frequent one, by {CLASSIFIER}.",
        compute=top_share,
    ),
    Metric(
        name="reid-confidence",
        title="Sureness of the person",
        unit="%",
        question="copies",
        against_train=training_people,
        definition=f"Mean probability of the most likely training person, by {CLASSIFIER}: it is high for windows of "
        "training people, however many of them.",
        compute=confidence,
    ),
)
