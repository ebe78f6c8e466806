"""The classifiers that utility is measured with; for a number, the corresponding regressions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.distribution import second_order_features
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.per_window import RIDGE
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.tasks import Task

__all__ = ["CLASSIFIERS", "check_classifiers", "require_extra"]

STRENGTH = 100.0
"""Regularisation of the linear models on z-scored features: 1 / C of logistic regression, α of ridge regression."""

Predict = Callable[[Features], np.ndarray]
"""Windows → probability of each class, (N, classes), or the number, (N,)."""
Classifier = Callable[[Examples, Task, int], Predict]
"""(training examples, task, seed) → function that predicts."""


def logreg(train: Examples, task: Task, seed: int) -> Predict:
    """Logistic regression on z-scored log10 band power and log-covariance."""
    model = _fitted(StandardScaler(), train.stack(second_order_features), train, task)
    return lambda features: _predicted(model, second_order_features(features), task)


def riemann(train: Examples, task: Task, seed: int) -> Predict:
    """Logistic regression on the tangent space at the Riemannian mean of the covariances.

    Barachant et al., IEEE Transactions on Biomedical Engineering 59, 2012. Covariances are shrunk by 1 %.
    """
    from pyriemann.estimation import Shrinkage
    from pyriemann.tangentspace import TangentSpace

    def covariances(features: Features) -> np.ndarray:
        found = features.covariance.astype(np.float64)
        return found + 1e-12 * np.eye(found.shape[-1])  # flat windows

    steps = make_pipeline(Shrinkage(RIDGE), TangentSpace("riemann"), StandardScaler())
    model = _fitted(steps, train.stack(covariances), train, task)
    return lambda features: _predicted(model, covariances(features), task)


def eegnet(train: Examples, task: Task, seed: int) -> Predict:
    """EEGNet of braindecode on the signals; see `eegnet.train_eegnet`."""
    from signal_diffusion.evaluation.utility.eegnet import train_eegnet

    return train_eegnet(train, task, seed)


CLASSIFIERS: dict[str, Classifier] = {"logreg": logreg, "riemann": riemann, "eegnet": eegnet}
"""Name on the command line → classifier."""


def check_classifiers(names: Sequence[str], option: str = "--classifiers") -> None:
    """Raise `UserError` for an unknown name."""
    if unknown := [name for name in names if name not in CLASSIFIERS]:
        raise UserError(f"{option}: unknown classifier {unknown[0]!r}; use some of: {', '.join(CLASSIFIERS)}")


def require_extra() -> None:
    """Import the packages of the extra `evaluation`; raise `UserError` if they are not installed."""
    if missing := [name for name in ("braindecode", "pyriemann") if find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} not installed; install the extra: uv sync --extra evaluation")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that MNE will change, within braindecode
        import braindecode.augmentation
        import braindecode.models  # noqa: F401


def _fitted(steps: Any, x: np.ndarray, train: Examples, task: Task) -> Any:
    linear = Ridge(alpha=STRENGTH) if task.is_number else LogisticRegression(C=1 / STRENGTH, max_iter=1000)
    step = "ridge" if task.is_number else "logisticregression"
    weights = train.balanced_weights(is_number=task.is_number)
    return make_pipeline(steps, linear).fit(x, train.targets, **{f"{step}__sample_weight": weights})


def _predicted(model: Any, x: np.ndarray, task: Task) -> np.ndarray:
    if task.is_number:
        return model.predict(x)
    scores = np.zeros((len(x), len(task.classes)))
    scores[:, model.classes_.astype(int)] = model.predict_proba(x)  # a class may be missing from the training windows
    return scores
