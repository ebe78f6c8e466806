"""Distance in the features of EEGNet, trained on the training windows to predict their label.

Unlike band power and covariance, it sees the signals themselves: what helps to tell the labels apart.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np

from signal_diffusion.evaluation.distribution import COMPONENTS, frechet
from signal_diffusion.evaluation.feature_cache import from_cache
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Metric
from signal_diffusion.evaluation.utility.eegnet import TrainedEEGNet, train_eegnet
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.tasks import known_rows, make_task
from signal_diffusion.evaluation.windows import SUBJECT

__all__ = ["METRICS", "eegnet_features"]

COLUMN = "label"
SEED = 0
SHORTEST = 64
"""Samples of the first layer's kernel."""


def eegnet_features(train: Features) -> Callable[[Features], None]:
    """Train EEGNet when it is first needed; the result lets features know `eegnet`, (N, D) (a `measurement.Relate`)."""
    if find_spec("braindecode") is None:
        raise Unavailable("braindecode is not installed; install the extra: uv sync --extra evaluation")
    labels = train.column(COLUMN)
    if labels is None or len({*labels.tolist()} - {""}) < 2:
        raise Unavailable(f"the training windows do not have two values of {COLUMN}, which EEGNet is trained to tell")
    if train.samples < SHORTEST:
        raise Unavailable(f"windows of {train.samples} samples; EEGNet needs at least {SHORTEST}")
    trained = cache(partial(_trained, train))

    def add(features: Features) -> None:
        key = _key(train, features)
        compute = partial(_penultimate, trained, features)
        features.know("eegnet", from_cache(key, "eegnet", compute) if key else compute())

    return add


def _trained(train: Features) -> TrainedEEGNet:
    known = train.take(known_rows(train.windows, COLUMN))
    task = make_task(COLUMN, known.windows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that MNE will change, within braindecode
        return train_eegnet(Examples.of(known, task.targets(known.windows)), task, SEED)


def _penultimate(trained: Callable[[], TrainedEEGNet], features: Features) -> np.ndarray:
    return trained().penultimate(features)


def _key(train: Features, features: Features) -> str:
    """Hash of what the features depend on: both sets of signals, who the training windows are of, and their labels."""
    if not train.key or not features.key:
        return ""
    columns = [np.asarray(train.column(name)).tolist() for name in (COLUMN, SUBJECT)]
    return hashlib.sha256(repr((train.key, features.key, columns, version("braindecode"))).encode()).hexdigest()[:32]


def _eegnet(features: Features) -> np.ndarray:
    return features.eegnet


METRICS = (
    Metric(
        name="eegnet-fd",
        title="EEG-FD, EEGNet",
        question="diversity",
        least=2 * COMPONENTS + 1,
        fitted_to_train=eegnet_features,
        definition="Fréchet distance of what the last layer is given of EEGNet (braindecode; Lawhern et al. 2018), "
        "trained on the training windows to tell their label from pieces of 4 s: means over the pieces of a window, "
        "z-scored and whitened to 32 components of real windows. The people of its floor are among those that EEGNet "
        "is trained on.",
        compute=partial(frechet, of=_eegnet),
    ),
)
