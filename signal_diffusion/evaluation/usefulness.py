"""TSTR: what a classifier learns from synthetic windows, tested on real people (Esteban et al., arXiv:1706.02633).

The floor is the same classifier trained on training windows, at most as many as synthetic ones (TRTR). Trained on real
and tested on synthetic windows (TRTS) is `adherence`. `utility` measures more: other classifiers, and gains.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.bootstrap import draws_of_people
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric
from signal_diffusion.evaluation.utility.classifiers import logreg
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.scores import Predictions, scores_of
from signal_diffusion.evaluation.utility.tasks import NUMBERS, Task, rows_with

__all__ = ["METRICS"]

LEAST_WINDOWS = 20
"""Windows whose value is known."""
LEAST_OF_CLASS = 5
LEAST_PEOPLE = 5
"""People to test a number on, of which each has one."""


def trained_on(real: Features, synthetic: Features, *, column: str) -> Measurement:
    """Score on real windows of a classifier that is trained on synthetic ones."""
    tested, trained = (_known(each, column) for each in (real, synthetic))
    task = _task(tested, column)
    if not task.is_number:  # classes that nobody tested has
        trained = trained.take(np.flatnonzero(np.isin(np.asarray(trained.column(column)), task.classes)))
        _check_classes(trained, column)
    examples, test = (Examples.of(each, task.targets(each)) for each in (trained, tested))
    people, codes = np.unique(test.people, return_inverse=True)
    if task.is_number and len(people) < LEAST_PEOPLE:
        raise Unavailable(f"{tested.name}: {len(people)} people with {column}; at least {LEAST_PEOPLE} are needed")
    found = Predictions(
        values=logreg(examples, task, 0)(tested), targets=test.targets, people=codes, folds=np.zeros(len(test), int)
    )
    scores = scores_of(found, task, draws_of_people(len(people), 0, 0))
    return Measurement(value=float(scores["spearman" if task.is_number else "auc"][0]))


def _known(features: Features, column: str) -> Features:
    """The windows whose value is known."""
    try:
        rows = rows_with(features, column)
    except UserError as error:
        raise Unavailable(str(error)) from None
    if len(rows) < LEAST_WINDOWS:
        known = f"{column} is known of {len(rows) or 'no'} windows"
        raise Unavailable(f"{features.name}: {known}; at least {LEAST_WINDOWS} are needed")
    return features.take(rows)


def _task(tested: Features, column: str) -> Task:
    if column not in NUMBERS:
        return Task(column=column, classes=tuple(_check_classes(tested, column)))
    if len(np.unique(np.asarray(tested.columns[column], str))) < 2:
        raise Unavailable(f"{tested.name}: all windows have the same {column}; at least two values are needed")
    return Task(column=column)


def _check_classes(features: Features, column: str) -> list[str]:
    """The classes, at least two with enough windows each."""
    classes, counts = np.unique(np.asarray(features.column(column)), return_counts=True)
    if len(classes) < 2:
        found = f"only {column} {classes[0]}" if len(classes) else f"no {column} that real windows have"
        raise Unavailable(f"{features.name}: {found}; a classifier needs at least two classes")
    if counts.min() < LEAST_OF_CLASS:
        raise Unavailable(
            f"{features.name}: {counts.min()} windows of {column} {classes[counts.argmin()]}; at least "
            f"{LEAST_OF_CLASS} are needed"
        )
    return classes.tolist()


METRICS = (
    *(
        Metric(
            name=f"tstr-{column}",
            title=f"TSTR, {column}",
            unit="AUC",
            question="use",
            better="larger",
            quick=column == "label",
            least=LEAST_WINDOWS,
            floor_of_train=True,
            chance=0.5,
            least_floor=0.55,
            offset=0.05,
            definition="AUC of logistic regression (C = 0.01) on z-scored log10 band power and log-covariance that is "
            f"trained on the {column} of synthetic windows and tested on real people who were not trained on; its "
            "floor is that of the same trained on training windows, at most as many (TRTR). Trained on real and tested "
            f"on synthetic windows (TRTS) is the adherence to {column}.",
            compute=partial(trained_on, column=column),
        )
        for column in ("label", "gender")
    ),
    Metric(
        name="tstr-age",
        title="TSTR, age",
        unit="Spearman's ρ",
        question="use",
        better="larger",
        least=LEAST_WINDOWS,
        floor_of_train=True,
        chance=0.0,
        least_floor=0.2,
        offset=0.1,
        definition="Spearman's correlation over people of their age and the mean prediction for their windows by ridge "
        "regression (α = 100) on z-scored log10 band power and log-covariance that is trained on synthetic windows; "
        "the people were not trained on. Its floor is that of the same trained on training windows, at most as many "
        "(TRTR).",
        compute=partial(trained_on, column="age"),
    ),
)
