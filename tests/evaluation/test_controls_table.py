"""On real recordings, each metric sees the faults that it is for, and no others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.data.preparing.options import PrepareOptions
from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.evaluation.controls import CONTROLS, OF_TRAINING
from signal_diffusion.evaluation.copies import Training, attach_training
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.metrics import METRICS
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.evaluation.windows import Windows

PEOPLE = 12
LEAVES, STAYS = 1.2, 2.6
"""Values relative to those of other people: above the one if a metric sees a fault, below the other if not."""
SECOND_ORDER = {"eeg-fd", "mmd", "coverage", "c2st"}
SEEN = {
    "copies + 10 % noise": {"copies"},
    "phases randomised, shared": {"kurtosis", "envcv-w1", "rocket"},
    "phases randomised per electrode": {"kurtosis", "envcv-w1", "rocket", "corrf", "coherence", *SECOND_ORDER},
    "electrodes permuted": {"lsd", "corrf", "coherence", *SECOND_ORDER},
    "low-pass 20 Hz": {"lsd", "bp-w1", "rocket", *SECOND_ORDER},
    "two people": {"coverage"},
    "amplitude × 1.3": {"amp-w1", "c2st"},
    "white noise": {"lsd", "bp-w1", "kurtosis", "acf", "envcv-w1", "rocket", "corrf", "coherence", *SECOND_ORDER},
}
"""Control → metrics that must leave the values of other people."""
JUDGED = sorted({name for names in SEEN.values() for name in names})
COPIED = 20.0
"""%, limit of AuthViol for windows that are not copies."""


@pytest.fixture(scope="module")
def groups(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Windows]:
    """Windows of three groups of twelve people."""
    root = tmp_path_factory.mktemp("data") / "eegmat"
    prepare([real_data / "eegmat"], root, PrepareOptions(representation="timeseries", overlap=0))
    windows = read_dataset(root, None)
    people = np.random.default_rng(0).permutation(windows.people)
    rows = [np.isin(np.asarray(windows.subjects), people[start : start + PEOPLE]) for start in range(0, 36, PEOPLE)]
    return [windows.take(np.flatnonzero(each)) for each in rows]


@pytest.fixture(scope="module")
def values(groups: list[Windows]) -> dict[str, dict[str, tuple[float, float]]]:
    """Control → metric → its value, and that of as many windows of other people."""
    real, train, other = groups
    training = Training(train)
    sets = {"real": Features(real), "other": Features(other)}
    sets |= {
        name: Features(control(train if name in OF_TRAINING else other, np.random.default_rng(1)))
        for name, control in CONTROLS.items()
    }
    for features in sets.values():
        attach_training(features, training)
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for name in CONTROLS:
        size = min(len(sets["real"]), len(sets["other"]))
        parts = [evenly(sets[each], size) for each in ("real", name, "other")]
        # Two people are too few for folds by person; their windows are repeated, as a collapsed model repeats itself.
        judged = JUDGED if name != "two people" else ["coverage", "lsd", "corrf", "kurtosis", "copies"]
        found[name] = {
            metric: (METRICS[metric].compute(*parts[:2]).value, METRICS[metric].compute(parts[0], parts[2]).value)
            for metric in judged
        }
    return found


def evenly(features: Features, size: int) -> Features:
    """`size` windows, repeated if there are fewer."""
    return features.take(np.linspace(0, len(features) - 1, size).round().astype(int))


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("control", CONTROLS)
def test_a_metric_sees_the_faults_that_it_is_for(values: dict[str, dict[str, tuple[float, float]]], control: str):
    row = {name: (METRICS[name].ratio(*pair), *pair) for name, pair in values[control].items()}
    print(control, {name: tuple(round(float(each), 3) for each in cells) for name, cells in row.items()})

    for name, (ratio, value, _) in row.items():
        if name == "copies":
            assert value == 100 if name in SEEN[control] else value < COPIED, (control, name)
        elif name in SEEN[control]:
            assert ratio > LEAVES, (control, name)
        else:
            assert ratio < STAYS, (control, name)
