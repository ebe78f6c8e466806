"""Who is trained and tested on: folds by person, and shares of the training people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.utility.tasks import Task
from signal_diffusion.evaluation.windows import Windows

__all__ = ["Fold", "class_of_people", "make_folds", "people_of_share"]

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class Fold:
    """People who are trained on and people who are tested on; nobody is in both."""

    train: tuple[str, ...]
    test: tuple[str, ...]


def make_folds(train: Windows, real: Windows, task: Task, seed: int) -> list[Fold]:
    """One fold if nobody is in both sets; five folds by person, stratified by class, if both have the same people.

    Raises
    ------
    UserError
        If the people are unknown, or some but not all people are in both sets.
    """
    for windows in (train, real):
        if windows.subjects is None or "" in windows.people:
            raise UserError(
                f"{windows.name}: the column subject is missing or not known of all windows; classifiers are tested on "
                "people who were not trained on, so each window needs its person"
            )
    shared = set(train.people) & set(real.people)
    if not shared:
        return [Fold(train=tuple(train.people), test=tuple(real.people))]
    if train.people != real.people:
        raise UserError(
            f"{listed(sorted(shared))} are in {train.name} and in {real.name}; give sets without common people, or "
            "the same people in both for folds by person"
        )
    if len(real.people) < 2:
        raise UserError(f"{real.name}: one person; at least two are needed to test on somebody not trained on")
    count = min(FOLDS, len(real.people))
    splitter = GroupKFold if task.is_number else StratifiedGroupKFold
    subjects = np.asarray(real.subjects)
    split = splitter(count, shuffle=True, random_state=seed).split(real.signals, task.targets(real), subjects)
    return [
        Fold(train=tuple(np.unique(subjects[fitted]).tolist()), test=tuple(np.unique(subjects[tested]).tolist()))
        for fitted, tested in split
    ]


def class_of_people(names: np.ndarray, targets: np.ndarray, task: Task) -> dict[str, int]:
    """Person → class of most of the person's windows; the same class for all if a number is predicted."""
    people = np.unique(names).tolist()
    if task.is_number:
        return dict.fromkeys(people, 0)
    return {person: int(np.bincount(targets[names == person].astype(int)).argmax()) for person in people}


def people_of_share(class_of: Mapping[str, int], share: float, seed: int) -> list[str]:
    """A random share of the people, at least two, with each class in proportion and at least once.

    Smaller shares of the same seed are part of larger ones.
    """
    random = np.random.default_rng(seed)
    place: dict[str, tuple[bool, float]] = {}
    classes = sorted(set(class_of.values()))
    for each in classes:
        members = random.permutation(sorted(person for person in class_of if class_of[person] == each)).tolist()
        start = random.random()
        # Evenly spaced, so that the beginning has each class in proportion; the first of each class comes first.
        place |= {person: (index > 0, (index + start) / len(members)) for index, person in enumerate(members)}
    count = min(len(place), max(2, len(classes), round(share * len(place))))
    return sorted(sorted(place, key=lambda person: (*place[person], person))[:count])
