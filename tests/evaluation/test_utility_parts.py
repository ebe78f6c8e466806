"""The parts of utility, against scikit-learn, SciPy and what the augmentations promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, mean_absolute_error, roc_auc_score

from signal_diffusion.evaluation.bootstrap import draws_of_people
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.utility.arms import FULL, QUICK
from signal_diffusion.evaluation.utility.augmentations import AUGMENTATIONS, Augmented
from signal_diffusion.evaluation.utility.eegnet import _temporal, train_eegnet
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.scores import Predictions, scores_of
from signal_diffusion.evaluation.utility.tasks import Task
from signal_diffusion.evaluation.windows import Windows

pytest.importorskip("braindecode")
PEOPLE, COUNT = 8, 80


def predictions(classes: int, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    values = random.dirichlet(np.ones(classes), COUNT)
    values[::7] = values[0]  # ties
    people = np.repeat(np.arange(PEOPLE), COUNT // PEOPLE)
    return Predictions(
        values=values, targets=random.integers(0, classes, COUNT), people=people, folds=np.zeros(COUNT, int)
    )


def rows_of(found: Predictions, drawn: np.ndarray) -> np.ndarray:
    return np.concatenate([np.flatnonzero(found.people == person) for person in drawn])


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_drawn_people_are_those_of_scikit_learn_on_their_windows(classes: int) -> None:
    found, task = predictions(classes), Task(column="label", classes=tuple("abc"[:classes]))
    drawn = draws_of_people(PEOPLE, 20, 0)
    scores = scores_of(found, task, drawn)
    for number, people in enumerate(drawn):
        rows = rows_of(found, people)
        values, targets = found.values[rows], found.targets[rows]
        if number == 0:  # everybody once
            auc = (
                roc_auc_score(targets, values[:, 1])
                if classes == 2
                else roc_auc_score(targets, values, multi_class="ovr", average="macro")
            )
            assert scores["auc"][number] == pytest.approx(auc)
        accuracy = balanced_accuracy_score(targets, values.argmax(1))
        assert scores["balanced accuracy"][number] == pytest.approx(accuracy)


def test_draws_have_the_auc_of_everybody_on_average_if_pairs_of_one_person_are_easy() -> None:
    """Outputs of each person have an offset, so that windows are only in order within a person."""
    random = np.random.default_rng(0)
    people, targets = np.repeat(np.arange(PEOPLE), COUNT // PEOPLE), np.tile([0, 1], COUNT // 2)
    scores = targets + 100 * random.permutation(PEOPLE)[people]
    found = Predictions(
        values=np.stack([-scores, scores], 1), targets=targets, people=people, folds=np.zeros(COUNT, int)
    )
    drawn = draws_of_people(PEOPLE, 1000, 0)
    auc = scores_of(found, Task(column="label", classes=("a", "b")), drawn)["auc"]
    assert auc[0] == pytest.approx(0.5 + 0.5 / PEOPLE)
    assert auc[1:].mean() == pytest.approx(auc[0], abs=0.02)


def test_the_auc_compares_windows_of_the_same_fold_only() -> None:
    found = predictions(2)
    folds = found.people // 4
    shifted = found.values + 10 * folds[:, None] * [0, 1]
    two = Predictions(values=shifted, targets=found.targets, people=found.people, folds=folds)
    auc = scores_of(two, Task(column="label", classes=("a", "b")), draws_of_people(PEOPLE, 1, 0))["auc"][0]
    parts = [(found.targets[folds == each], found.values[folds == each, 1]) for each in (0, 1)]
    pairs = [targets.sum() * (1 - targets).sum() for targets, _ in parts]
    assert auc == pytest.approx(np.average([roc_auc_score(*part) for part in parts], weights=pairs))


def test_scores_of_numbers_are_of_people() -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(PEOPLE), COUNT // PEOPLE)
    ages = random.integers(20, 60, PEOPLE).astype(float)
    found = Predictions(
        values=ages[people] + 20 * random.standard_normal(COUNT), targets=ages[people], people=people, folds=people * 0
    )
    drawn = draws_of_people(PEOPLE, 20, 0)
    scores, mean = scores_of(found, Task(column="age"), drawn), found.values.reshape(PEOPLE, -1).mean(1)
    for number, each in enumerate(drawn):
        assert scores["spearman"][number] == pytest.approx(stats.spearmanr(mean[each], ages[each]).statistic)
        assert scores["mae"][number] == pytest.approx(mean_absolute_error(ages[each], mean[each]))


def test_a_draw_without_a_class_has_no_score() -> None:
    found = Predictions(
        values=np.eye(2)[[0, 0, 1]], targets=np.array([0, 0, 1]), people=np.array([0, 1, 2]), folds=np.zeros(3, int)
    )
    scores = scores_of(found, Task(column="gender", classes=("f", "m")), np.array([[0, 1, 2], [0, 1, 1]]))
    assert scores["auc"].tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert scores["balanced accuracy"].tolist() == pytest.approx([1, np.nan], nan_ok=True)


def examples(people: str = "abcdef", per_person: int = 10, samples: int = 128) -> Examples:
    random = np.random.default_rng(0)
    subjects = np.repeat(list(people), per_person)
    targets = np.tile([0, 1], len(subjects) // 2)
    signals = random.standard_normal((len(subjects), 4, samples)) * (1 + targets)[:, None, None]
    columns = {"subject": subjects, "label": targets}
    windows = Windows(signals=signals, sfreq=64.0, ch_names=tuple("wxyz"), columns=columns)
    return Examples.of(Features(windows), targets)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_uses_each_window_equally_often_and_keeps_what_it_promises(name: str) -> None:
    train = examples()
    made = Augmented(train, name, 2 * len(train), 0).first(2 * len(train))
    people = {person: made.weights[made.people == person].sum() for person in "abcdef"}
    if name == "Mixup":
        assert sum(people.values()) == pytest.approx(120) and len(made) == 240
        return
    assert people == dict.fromkeys("abcdef", 20)
    [features] = made.parts
    x, ours = features.windows.signals, train.parts[0].windows.signals
    if name == "FTSurrogate":
        found, expected = (np.sort(np.abs(np.fft.rfft(each))[..., 5].ravel()) for each in (x[:60], ours))
        assert found == pytest.approx(expected, rel=1e-3)
    elif name == "SignFlip":
        assert np.sort(-x[:60], None) == pytest.approx(np.sort(ours, None))
    else:
        assert (x.std(-1) < 1e-3).mean() == pytest.approx(0.2, abs=0.08)


def test_a_mixed_window_has_both_targets_with_weights_that_sum_to_one() -> None:
    train = examples()
    made = Augmented(train, "Mixup", 60, 0).first(30)
    assert made.weights[:30] + made.weights[30:] == pytest.approx(np.ones(30))
    assert len(made.parts) == 2 and made.parts[0] is made.parts[1]


def test_weights_are_balanced_and_copies_change_nothing() -> None:
    train = examples().take(np.arange(25))
    weights = train.balanced_weights(is_number=False)
    assert [weights[train.targets == each].sum() for each in (0, 1)] == pytest.approx([12.5, 12.5])
    assert (train + train).balanced_weights(is_number=False)[:25] == pytest.approx(weights / 2)


def test_eegnet_learns_from_people_and_repeats_itself_with_the_same_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signal_diffusion.evaluation.utility.eegnet.MAX_EPOCHS", 5)
    monkeypatch.setattr("signal_diffusion.evaluation.utility.eegnet.LEARNING_RATE", 1e-2)
    task, train = Task(column="label", classes=("quiet", "loud")), examples()
    import torch

    before = torch.random.get_rng_state()
    first, again, other = (train_eegnet(train, task, seed)(train.parts[0]) for seed in (0, 0, 1))
    assert (torch.random.get_rng_state() == before).all()
    assert (first == again).all() and (first != other).any()
    assert first.sum(1) == pytest.approx(np.ones(60), abs=1e-5)
    assert roc_auc_score(train.targets, first[:, 1]) > 0.8


def test_the_convolution_in_time_of_each_electrode_is_that_of_braindecode() -> None:
    import torch
    from braindecode.models import EEGNet

    x = torch.randn(3, 1, 4, 128, generator=torch.Generator().manual_seed(0))
    convolution = EEGNet(n_chans=4, n_outputs=2, n_times=128, sfreq=64.0).conv_temporal
    expected, found = convolution(x), _temporal(convolution, x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(each.square().sum(), convolution.weight)[0] for each in (found, expected)),
        rtol=1e-4,
        atol=1e-3,
    )


def test_a_plan_counts_the_classifiers_that_are_trained() -> None:
    assert (FULL.fits("logreg"), FULL.fits("eegnet"), QUICK.fits("eegnet")) == (65, 33, 7)
