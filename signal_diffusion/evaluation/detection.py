"""Classifier two-sample tests: how well real and synthetic windows can be told apart."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from signal_diffusion.evaluation.distribution import second_order_features
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric

__all__ = ["METRICS", "linear_classifier"]

FOLDS = 5


def linear_classifier(strength: float = 0.1) -> Pipeline:
    """Logistic regression on z-scored features; `strength` is C, the inverse of its penalty."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def second_order_auc(real: Features, synthetic: Features) -> Measurement:
    """AUC of logistic regression on log band power and log-covariance."""
    return _auc(linear_classifier(0.01), second_order_features(real), second_order_features(synthetic), real, synthetic)


def kernel_auc(real: Features, synthetic: Features) -> Measurement:
    """AUC of ridge regression on random dilated kernels."""
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=len(real) + len(synthetic)))
    return _auc(classifier, real.random_kernels, synthetic.random_kernels, real, synthetic)


def _auc(classifier: object, first: np.ndarray, second: np.ndarray, real: Features, synthetic: Features) -> Measurement:
    groups = np.concatenate([_groups(real, "real"), _groups(synthetic, "synthetic")])
    x, y = np.concatenate([first, second]), np.repeat([0, 1], [len(first), len(second)])
    if min(len(np.unique(groups[y == each])) for each in (0, 1)) < FOLDS:
        raise Unavailable(f"fewer than {FOLDS} people or windows in one of the sets; one for each fold is needed")
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    found = []
    for train, test in folds.split(x, y, groups):
        classifier.fit(x[train], y[train])  # type: ignore[attr-defined]
        found.append(roc_auc_score(y[test], classifier.decision_function(x[test])))  # type: ignore[attr-defined]
    return Measurement(value=float(np.mean(found)))


def _groups(features: Features, prefix: str) -> np.ndarray:
    """What must stay in one fold: the windows of a person; each window if people are unknown."""
    subjects = features.subjects
    names = range(len(features)) if subjects is None else subjects
    return np.array([f"{prefix} {name}" for name in names])


METRICS = (
    Metric(
        name="c2st",
        title="C2ST",
        unit="AUC",
        question="detection",
        least=40,
        better="half",
        definition="AUC of logistic regression (C = 0.01) between real and synthetic windows on z-scored log10 band "
        "power and log-covariance, mean of 5 folds by person; 0.5 is perfect, less a sign of too little variety.",
        compute=second_order_auc,
    ),
    Metric(
        name="rocket",
        title="ROCKET",
        unit="AUC",
        question="detection",
        least=40,
        better="half",
        definition="AUC of ridge regression between real and synthetic windows on 250 random dilated convolutions of "
        "each z-scored electrode (share of positive values and maximum, mean over electrodes), 5 folds by person.",
        compute=kernel_auc,
    ),
)
