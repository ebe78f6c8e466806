"""Condition adherence: whether windows are what was asked for, as predicted from them by a model of training windows.

The ceiling is the same model on windows of real people who were not trained on. If it cannot predict those either, the
metric is unavailable: nothing could be concluded from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from signal_diffusion.evaluation.detection import linear_classifier
from signal_diffusion.evaluation.distribution import second_order_features
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric

__all__ = ["METRICS", "Prediction"]

LEAST_SKILL = 0.1
"""Of the prediction for real windows, on a scale from chance (0) to always right (1)."""
LEAST_CORRELATION = 0.2
"""Of predicted and true numbers of real windows."""
LEAST_WINDOWS = 10
NUMERIC = ("age",)


@dataclass(frozen=True)
class Prediction:
    """A model that predicts a column; a `measurement.Relate`."""

    column: str

    def __call__(self, train: Features) -> Callable[[Features], None]:
        """Fit to training windows; the result lets features know `predicted_<column>`, (N,)."""
        values = _values(train, self.column)
        known = _known(values)
        if len(np.unique(values[known])) < 2:
            raise Unavailable(f"the training windows do not have two values of {self.column}")
        model = _ridge(int(known.sum())) if self.column in NUMERIC else linear_classifier()
        model.fit(second_order_features(train)[known], values[known])
        return partial(self._add, model)

    def _add(self, model: Pipeline, features: Features) -> None:
        if not _known(_values(features, self.column)).any():
            raise Unavailable(f"{features.name}: {self.column} is in no window known or asked for")
        features.know(f"predicted_{self.column}", model.predict(second_order_features(features)))


def accuracy(real: Features, synthetic: Features, *, column: str) -> Measurement:
    """Share of windows of which the classifier predicts the asked class, mean over classes, %."""
    shares = _right(synthetic, column)
    if len(shares) < 2:
        raise Unavailable(f"only one {column} was asked for; at least two are needed")
    of_real = _right(real.root, column)
    chance = 1 / max(2, len(of_real))
    if (reached := float(np.mean(list(of_real.values())))) - chance < LEAST_SKILL * (1 - chance):
        raise Unavailable(
            f"a classifier of the training windows is right about the {column} of {100 * reached:.0f} % of real "
            f"windows ({100 * chance:.0f} % by chance), which is too little to judge others by"
        )
    return Measurement(
        value=100 * float(np.mean(list(shares.values()))),
        classes={name: 100 * each for name, each in shares.items()},
        chance=100 * chance,
    )


def age_correlation(real: Features, synthetic: Features) -> Measurement:
    """Spearman's correlation of predicted and asked age."""
    _check_age(real.root)
    asked, predicted = _ages(synthetic)
    return Measurement(value=_spearman(asked, predicted))


def age_error(real: Features, synthetic: Features) -> Measurement:
    """Mean absolute difference of predicted and asked age, years."""
    _check_age(real.root)
    asked, predicted = _ages(synthetic)
    return Measurement(value=float(np.abs(predicted - asked).mean()))


def _right(features: Features, column: str) -> dict[str, float]:
    """Share of right predictions of each class."""
    asked, predicted = _values(features, column), getattr(features, f"predicted_{column}")
    return {str(name): float((predicted[asked == name] == name).mean()) for name in np.unique(asked[_known(asked)])}


def _check_age(real: Features) -> None:
    reached = _spearman(*_ages(real))
    if reached < LEAST_CORRELATION:
        raise Unavailable(
            f"a regression on the training windows predicts ages of real windows with a correlation of {reached:.2f}, "
            "which is too little to judge others by"
        )


def _ages(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Asked and predicted ages of the windows whose age is known."""
    asked = _values(features, "age")
    known = _known(asked)
    if known.sum() < LEAST_WINDOWS:
        raise Unavailable(f"{known.sum()} windows with an age; at least {LEAST_WINDOWS} are needed")
    return asked[known], features.predicted_age[known]


def _spearman(asked: np.ndarray, predicted: np.ndarray) -> float:
    if len(np.unique(asked)) < 2:
        raise Unavailable("all windows have the same age; at least two ages are needed")
    return float(spearmanr(asked, predicted).statistic)


def _ridge(count: int) -> Pipeline:
    return make_pipeline(StandardScaler(), Ridge(alpha=count))


def _values(features: Features, column: str) -> np.ndarray:
    """The column, (N,): texts, "" where unknown, or numbers, NaN where unknown."""
    values = features.columns.get(column, [""] * len(features))
    return np.array([_number(value) if column in NUMERIC else _text(value) for value in values])


def _known(values: np.ndarray) -> np.ndarray:
    return np.isfinite(values) if values.dtype.kind == "f" else values != ""


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _text(value: Any) -> str:
    """Text, "" for None and NaN."""
    return "" if value is None or value != value else str(value)


METRICS = (
    *(
        Metric(
            name=f"adherence-{column}",
            title=f"Adherence to {column}",
            unit="%",
            question="conditions",
            least=20,
            better="larger",
            offset=5.0,
            quick=column == "label",
            against_train=Prediction(column),
            definition=f"Logistic regression (C = 0.1) on log10 band power and log-covariance, trained on the {column} "
            f"of training windows: share of windows of which it predicts the {column} that was asked for, mean over "
            "classes; its floor is that of real windows of people who were not trained on. The ratio is of what is "
            "above chance.",
            compute=partial(accuracy, column=column),
        )
        for column in ("label", "gender", "health")
    ),
    Metric(
        name="adherence-age",
        title="Adherence to age",
        question="conditions",
        least=20,
        better="larger",
        chance=0.0,
        offset=0.1,
        against_train=Prediction("age"),
        definition="Ridge regression on log10 band power and log-covariance, trained on the age of training windows: "
        "Spearman's correlation of predicted age and the age that was asked for; its floor is that of real windows of "
        "people who were not trained on.",
        compute=age_correlation,
    ),
    Metric(
        name="age-error",
        title="Error of age",
        unit="years",
        question="conditions",
        least=20,
        against_train=Prediction("age"),
        definition="Mean absolute difference of the predicted age, as for the adherence to age, and the age that was "
        "asked for.",
        compute=age_error,
    ),
)
