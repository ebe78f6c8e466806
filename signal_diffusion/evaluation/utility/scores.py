"""Scores of predictions, each with its values when people are drawn with replacement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from signal_diffusion.evaluation.utility.tasks import Task

__all__ = ["SCORES", "Predictions", "Score", "scores_of"]


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score and what its values mean."""

    title: str
    chance: float | None
    """Value of a classifier that knows nothing; None if that depends on the data."""
    larger_is_better: bool = True


SCORES = {
    "auc": Score(title="AUC", chance=0.5),
    "balanced accuracy": Score(title="balanced accuracy", chance=None),
    "spearman": Score(title="Spearman's ρ", chance=0.0),
    "mae": Score(title="MAE", chance=None, larger_is_better=False),
}
"""Name → score; the first two of classes, the others of numbers, of which a person has one: the mean of all windows."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a classifier predicts of windows of people it was not trained on."""

    values: np.ndarray
    """Probability of each class, (n, classes), or number, (n,)."""
    targets: np.ndarray
    """Class number or number, (n,)."""
    people: np.ndarray
    """Number of the person of each window, (n,)."""
    folds: np.ndarray
    """Fold of each window, (n,)."""


def scores_of(found: Predictions, task: Task, drawn: np.ndarray) -> dict[str, np.ndarray]:
    """Values of each score for draws of people, name → (draws,); NaN where the people drawn do not have it.

    The AUC compares windows of the same fold only, since the outputs of two classifiers have no common scale; of more
    than two classes, it is the mean over classes against the rest.
    """
    if task.is_number:
        return _of_numbers(found, drawn)
    size = drawn.shape[1]
    times = np.stack([np.bincount(row, minlength=size) for row in drawn]).astype(np.float64)
    return {"auc": _auc(found, times), "balanced accuracy": _balanced_accuracy(found, times)}


def _balanced_accuracy(found: Predictions, times: np.ndarray) -> np.ndarray:
    size, classes = times.shape[1], found.values.shape[1]
    right, all_ = np.zeros((size, classes)), np.zeros((size, classes))
    np.add.at(all_, (found.people, found.targets), 1)
    np.add.at(right, (found.people, found.targets), found.values.argmax(1) == found.targets)
    return _ratio(times @ right, times @ all_).mean(-1)


def _auc(found: Predictions, times: np.ndarray) -> np.ndarray:
    classes = found.values.shape[1]
    return np.mean([_auc_of_class(found, each, times) for each in ((1,) if classes == 2 else range(classes))], 0)


def _auc_of_class(found: Predictions, each: int, times: np.ndarray) -> np.ndarray:
    """Share of pairs of windows (one of the class, one not) that are in the right order; a tie counts half.

    The copies of a person who is drawn k times are not paired with each other. Otherwise pairs of one person, which are
    easier, would count k² instead of k times, and the draws would be better than everybody once.
    """
    size = times.shape[1]
    right, all_ = np.zeros((size, size)), np.zeros((size, size))
    for fold in np.unique(found.folds):
        inside = found.folds == fold
        score, people, is_class = found.values[inside, each], found.people[inside], found.targets[inside] == each
        order = np.sign(score[is_class][:, None] - score[~is_class][None]) / 2 + 0.5
        of_class, of_rest = (np.eye(size)[people[which]] for which in (is_class, ~is_class))
        right += of_class.T @ order @ of_rest  # pairs by the two people they are of
        all_ += of_class.sum(0)[:, None] * of_rest.sum(0)[None]
    again = times**2 - times
    found_right, found_all = (((times @ pairs) * times).sum(-1) - again @ pairs.diagonal() for pairs in (right, all_))
    return _ratio(found_right, found_all)


def _of_numbers(found: Predictions, drawn: np.ndarray) -> dict[str, np.ndarray]:
    size = drawn.shape[1]
    count = np.bincount(found.people, minlength=size)
    predicted, true = (np.bincount(found.people, each, size) / count for each in (found.values, found.targets))
    ranks = [stats.rankdata(each[drawn], axis=1) for each in (predicted, true)]
    first, second = (each - each.mean(1, keepdims=True) for each in ranks)
    return {
        "spearman": _ratio((first * second).sum(1), np.sqrt((first**2).sum(1) * (second**2).sum(1))),
        "mae": np.abs(predicted - true)[drawn].mean(1),
    }


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)
