"""Utility has known answers for copies, shuffled labels and a task that only synthetic windows show."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.utility.arms import FULL, Plan
from signal_diffusion.evaluation.utility.classifiers import CLASSIFIERS
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.measuring import measure_utility
from signal_diffusion.evaluation.utility.people import make_folds, people_of_share
from signal_diffusion.evaluation.utility.tasks import make_task
from signal_diffusion.evaluation.windows import Windows

pytest.importorskip("braindecode")
LOGREG = ("logreg",)


def windows(people: str, *, effect: float = 1.0, per_person: int = 12, seed: int = 0, name: str = "windows") -> Windows:
    """Noise of three electrodes with alpha of a strength that depends on label "work" or "rest", and on the person."""
    random = np.random.default_rng([seed, *map(ord, people)])
    subjects = np.repeat(list(people), per_person)
    labels = np.tile(["work", "rest"], len(subjects) // 2)
    strength = 1 + 0.3 * random.standard_normal(len(people)).repeat(per_person) + effect * (labels == "rest")
    seconds = np.arange(200) / 100
    alpha = np.sin(2 * np.pi * (10 * seconds + random.random((len(subjects), 1, 1))))
    signals = random.standard_normal((len(subjects), 3, 200)) + strength[:, None, None] * alpha
    return Windows(
        signals=10 * signals,
        sfreq=100.0,
        ch_names=("O1", "O2", "Pz"),
        columns={"subject": subjects, "label": labels},
        name=name,
    )


TRAIN, REAL = windows("abcdefgh", name="train"), windows("mnopqr", name="real")


def doubled(found: Windows) -> Windows:
    return found.take(np.tile(np.arange(len(found)), 2))


def without_people(found: Windows, **columns: np.ndarray) -> Windows:
    known = {key: values for key, values in found.columns.items() if key != "subject"} | columns
    return dataclasses.replace(found, columns=known, name="synthetic")


@pytest.fixture
def few_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer classifiers to train."""
    few = Plan(shares=(0.25, 1.0), ratios=FULL.ratios, augmentations=("SignFlip",))
    monkeypatch.setattr("signal_diffusion.evaluation.utility.measuring.FULL", few)


@pytest.mark.parametrize("classifier", ["logreg", "riemann"])
@pytest.mark.usefixtures("few_arms")
def test_copies_of_the_training_windows_gain_nothing_and_are_worth_as_much_as_they_are(classifier: str) -> None:
    found = measure_utility(TRAIN, REAL, doubled(TRAIN), classifiers=[classifier], seeds=1)
    for share in (0.25, 1.0):
        assert found.row(classifier, "T + 2 S", share=share).gain == pytest.approx(0, abs=0.002)
    copied = measure_utility(TRAIN, REAL, TRAIN, classifiers=[classifier], seeds=1)
    assert copied.row(classifier, "TSTR").value == pytest.approx(copied.row(classifier, "TRTR").value, abs=0.002)


def test_classifiers_trained_on_shuffled_labels_are_at_chance() -> None:
    task, features, test = make_task("label", TRAIN), Features(TRAIN), Features(REAL)
    truth, found = task.targets(REAL), []
    for seed in range(60):
        targets = np.random.default_rng(seed).permutation(task.targets(TRAIN))
        predict = CLASSIFIERS["logreg"](Examples.of(features, targets), task, 0)
        found.append(roc_auc_score(truth, predict(test)[:, 1]))
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)


@pytest.mark.usefixtures("few_arms")
def test_shuffled_labels_gain_nothing_and_are_worse_than_real_ones() -> None:
    labels = np.random.default_rng(0).permutation(np.asarray(doubled(TRAIN).columns["label"]))
    found = measure_utility(TRAIN, REAL, without_people(doubled(TRAIN), label=labels), classifiers=LOGREG, seeds=3)
    assert found.row("logreg", "TSTR").value < found.row("logreg", "TRTR").value - 0.2
    assert found.row("logreg", "T + 2 S").gain < 0.005


@pytest.mark.usefixtures("few_arms")
def test_swapped_labels_do_harm_that_is_printed_as_negative() -> None:
    labels = np.where(np.asarray(TRAIN.columns["label"]) == "work", "rest", "work")
    found = measure_utility(TRAIN, REAL, without_people(TRAIN, label=labels), classifiers=LOGREG, seeds=3)
    row = found.row("logreg", "T + 1 S")
    assert row.gain < -0.2 and row.gain_interval[1] < 0
    assert f",{row.gain}," in found.to_csv()
    [sentence] = found.sentences()
    assert f"worse ({row.gain:+.3f}" in sentence and sentence.endswith("synthetic data harm")
    assert f"{row.gain:+.3f}" in found.to_text()


@pytest.mark.usefixtures("few_arms")
def test_a_task_that_only_synthetic_windows_show_gains_and_its_interval_is_above_zero() -> None:
    blind, shown = windows("abcdefgh", effect=0, name="train"), windows("uvwx", per_person=60)
    found = measure_utility(blind, REAL, without_people(shown), classifiers=LOGREG, seeds=5)
    row = found.row("logreg", "T + 2 S")
    assert row.gain > 0.1 and row.gain_interval[0] > 0
    assert found.row("logreg", "TSTR").value > 0.9
    assert "synthetic data help" in found.sentences()[0]


@pytest.mark.usefixtures("few_arms")
def test_the_same_seeds_give_the_same_numbers() -> None:
    first, again = (measure_utility(TRAIN, REAL, doubled(TRAIN), classifiers=LOGREG, seeds=2) for _ in range(2))
    assert first.to_csv() == again.to_csv()


def test_all_arms_are_measured_and_the_text_has_them() -> None:
    found = measure_utility(TRAIN, REAL, doubled(TRAIN), classifiers=LOGREG, seeds=1)
    assert len(found.rows) == 2 * (3 + 4 * (1 + 3 * 5))
    assert not [row for row in found.rows if row.value is None]
    for words in (
        "real → synthetic (TRTS)",
        "1 × Mixup",
        "2 × synthetic",
        "100% = 8 people",
        "--seeds 1; use at least 5",
    ):
        assert words in found.to_text()


@pytest.mark.usefixtures("few_arms")
def test_age_is_predicted_by_regression() -> None:
    ages = {person: 20.0 + 5 * number for number, person in enumerate("abcdefghmnopqr")}

    def aged(found: Windows) -> Windows:
        age = np.array([ages[person] for person in found.columns["subject"]])
        signals = found.signals * (age / 20)[:, None, None]
        return dataclasses.replace(found, signals=signals, columns={**found.columns, "age": age})

    everybody = aged(windows("abcdefghmnopqr", effect=0))
    found = measure_utility(everybody, everybody, doubled(everybody), task="age", classifiers=LOGREG, seeds=2)
    assert found.row("logreg", "TRTR", score="spearman").value > 0.8
    assert found.row("logreg", "TRTR", score="mae").value < 10
    worse = [row for row in found.rows if row.score == "mae" and row.gain is not None and row.gain < 0]
    for row in worse:
        assert row.value > found.row("logreg", "T", share=row.share, score="mae").value or row.arm in ("TSTR", "TRTS")


def test_folds_never_share_a_person_and_test_everybody_once() -> None:
    task = make_task("label", TRAIN)
    for seed in range(5):
        folds = make_folds(TRAIN, TRAIN, task, seed)
        assert all(not set(fold.train) & set(fold.test) for fold in folds)
        assert sorted(person for fold in folds for person in fold.test) == TRAIN.people
    assert make_folds(TRAIN, TRAIN, task, 0) != make_folds(TRAIN, TRAIN, task, 1)


def test_shares_of_people_are_nested_and_have_each_class() -> None:
    class_of = {f"{number:02}": int(number < 4) for number in range(20)}
    for seed in range(10):
        tenth, quarter, half = (people_of_share(class_of, share, seed) for share in (0.1, 0.25, 0.5))
        assert set(tenth) < set(quarter) < set(half)
        assert [len(tenth), len(quarter), len(half)] == [2, 5, 10]
        assert {class_of[person] for person in tenth} == {0, 1}


@pytest.mark.usefixtures("few_arms")
def test_too_few_synthetic_windows_are_a_reason_and_not_a_number() -> None:
    found = measure_utility(TRAIN, REAL, without_people(TRAIN), classifiers=LOGREG, seeds=1)
    row = found.row("logreg", "T + 2 S")
    assert (row.value, row.gain) == (None, None)
    assert row.missing == "192 synthetic windows are needed for 8 people, there are 96"
    assert row.missing in found.to_csv()


@pytest.mark.usefixtures("few_arms")
def test_synthetic_windows_of_one_class_train_nothing() -> None:
    work = without_people(TRAIN.take(np.flatnonzero(np.asarray(TRAIN.columns["label"]) == "work")))
    found = measure_utility(TRAIN, REAL, work, classifiers=LOGREG, seeds=1)
    assert found.row("logreg", "TSTR").missing == "only label work to train TSTR on"


WRONG = {
    "label": (lambda: (TRAIN, REAL, without_people(TRAIN, label=np.full(96, "sleep"))), "label sleep is not in the tr"),
    "unknown": (
        lambda: (TRAIN, REAL, without_people(TRAIN, label=np.full(96, ""))),
        "label is not known of any",
    ),
    "people": (lambda: (without_people(TRAIN), REAL, TRAIN), "the column subject is missing"),
    "shared": (lambda: (TRAIN, windows("abmn", name="real"), TRAIN), "a, b are in train and in real"),
    "tested": (lambda: (TRAIN, REAL, REAL), "windows of people who are tested on (m, n, o, p, q, …); leave them out"),
    "folds": (lambda: (TRAIN, TRAIN, without_people(TRAIN)), "the person of each synthetic window is needed"),
    "rate": (
        lambda: (TRAIN, REAL, dataclasses.replace(TRAIN, sfreq=99.0, name="s")),
        "sampling rate: 99 Hz, but",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_measured_is_one_line(what: str) -> None:
    make, expected = WRONG[what]
    with pytest.raises(UserError) as error:
        measure_utility(*make(), classifiers=LOGREG, seeds=1)
    [line] = error.value.lines
    assert expected in line


def test_a_missing_column_and_a_wrong_classifier_are_one_line() -> None:
    with pytest.raises(UserError, match=r"train: no column gender, only label, subject; choose another --task"):
        measure_utility(TRAIN, REAL, TRAIN, task="gender")
    with pytest.raises(UserError, match="unknown classifier 'svm'; use some of: logreg, riemann, eegnet"):
        measure_utility(TRAIN, REAL, TRAIN, classifiers=["svm"])


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal_diffusion.evaluation.utility.classifiers.find_spec", lambda name: None)
    expected = r"^braindecode and pyriemann not installed; install the extra: uv sync --extra evaluation$"
    with pytest.raises(UserError, match=expected):
        measure_utility(TRAIN, REAL, TRAIN)


@pytest.mark.usefixtures("few_arms")
def test_synthetic_windows_of_few_of_the_people_leave_the_other_arms() -> None:
    some = TRAIN.take(np.flatnonzero(np.asarray(TRAIN.columns["subject"]) == "a"))
    found = measure_utility(TRAIN, TRAIN, some, classifiers=LOGREG, seeds=1)
    assert found.row("logreg", "TRTR").value > 0.9
    assert found.row("logreg", "TSTR").missing == "no windows to train TSTR on"
    assert found.row("logreg", "TRTS").value > 0.9
