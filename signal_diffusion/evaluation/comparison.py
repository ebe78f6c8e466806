"""Compare synthetic with real windows: the value of each metric, its floor, their ratio, and an interval.

The floor is the same metric between two disjoint groups of real people of the same size: a ratio of 1 is as good as
real. Intervals are those of bootstrap draws of people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.controls import CONTROLS, OF_SPECTROGRAMS, OF_TRAINING
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.groups import Groups, draws, groups_by_label, matched_groups
from signal_diffusion.evaluation.guidance import judged_by_scale
from signal_diffusion.evaluation.judging import judged, total_or_none
from signal_diffusion.evaluation.measurement import Metric, Relate
from signal_diffusion.evaluation.metrics import chosen_metrics
from signal_diffusion.evaluation.report import Estimate, Report, Result
from signal_diffusion.evaluation.windows import Windows

__all__ = ["MOST_WINDOWS", "compare_windows"]

MOST_WINDOWS = 1000
"""Largest number of windows of a group; more change little and take longer."""
DRAWS = 10
"""Bootstrap draws of people for the intervals."""
LEAST_OF_CLASS = 40
"""Windows of a class in each group, for its own values."""
OnMetric = Callable[[int, int], None]
"""Called with the number of metrics that are done, and of all."""


def compare_windows(
    real: Windows,
    synthetic: Windows,
    *,
    train: Windows | None = None,
    metrics: Sequence[str] | None = None,
    quick: bool = False,
    controls: bool = False,
    guidance: Mapping[float, Windows] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
    on_metric: OnMetric | None = None,
) -> Report:
    """Judge synthetic windows by real ones of people who were not trained on, in the same units and electrodes.

    Parameters
    ----------
    train
        Training windows, for the floor's other people and for copies; None = the real people are split for the floor.
    metrics
        Names from `metrics.METRICS`; None = all, or those of `quick`.
    controls
        Whether to judge `controls.CONTROLS` too.
    guidance
        Guidance scale → the same samples generated with it, for `guidance.judged_by_scale`.
    notes
        Sentences about the inputs that the report shows.

    Raises
    ------
    UserError
        If a metric is unknown. One that these windows do not have is in the report, with the reason.
    """
    chosen = chosen_metrics(metrics, quick=quick)
    if metrics is None and any(each.spectrograms is None for each in (real, synthetic, train) if each is not None):
        chosen = tuple(metric for metric in chosen if not metric.of_spectrograms)
    if train is not None and (shared := sorted({*real.people} & {*train.people})):
        raise UserError(
            f"{real.name} and {train.name} have the same people, {listed(shared)}; judge by people whom the model was "
            "not trained on"
        )
    if both := sorted({*real.people} & {*synthetic.people}):
        notes = [*notes, f"{synthetic.name} has people of {real.name}, {listed(both)}: it is judged by itself"]
    features = {"real": Features(real, is_cached=True), "synthetic": Features(synthetic, is_cached=True)}
    if train is not None:
        features["train"] = Features(train, is_cached=True)
    groups = matched_groups(
        features["real"], features["synthetic"], features.get("train"), most=MOST_WINDOWS, seed=seed
    )
    additions, missing = _related(chosen, features)
    drawn = list(draws(groups, DRAWS, seed))
    if not drawn:
        notes = [*notes, f"{real.name}: one person; there are no intervals over people"]
    classes = groups_by_label(groups, least=LEAST_OF_CLASS)
    faulty = _controls(groups, list(additions.values()), seed) if controls else {}
    total = len(chosen) * (1 + len(faulty))
    results, done = [], 0
    estimates: dict[str, dict[str, Estimate | None]] = {name: {} for name in faulty}
    for metric in chosen:
        reason = missing.get(metric.relate)
        results.append(Result(metric=metric, missing=reason) if reason else judged(metric, groups, drawn, classes))
        for name, made in faulty.items():
            found = None if reason else total_or_none(metric, replace(groups, synthetic=made))
            estimates[name][metric.name] = found
        done += 1 + len(faulty)
        if on_metric:
            on_metric(done, total)

    def add(metric: Metric, more: Features) -> str:
        if metric.relate in additions:
            additions[metric.relate](more)
        return missing.get(metric.relate, "")

    return Report(
        results=tuple(results),
        controls=estimates,
        guidance=judged_by_scale(guidance or {}, groups, chosen, add, count=DRAWS, seed=seed),
        notes=tuple(notes),
        groups=groups,
        features=features,
    )


def _related(
    chosen: Sequence[Metric], features: Mapping[str, Features]
) -> tuple[dict[Relate | None, Callable[[Features], None]], dict[Relate | None, str]]:
    """Add to the features how they relate to the training windows.

    Returns the functions that do so, for more features, and why others cannot.
    """
    additions: dict[Relate | None, Callable[[Features], None]] = {}
    missing: dict[Relate | None, str] = {}
    compared = {metric.fitted_to_train for metric in chosen}  # training windows are the floor's, and need them too
    for relate in dict.fromkeys(metric.relate for metric in chosen if metric.relate):
        try:
            if "train" not in features:
                raise Unavailable("no training data is given; use --train")
            add = relate(features["train"])
            for name, each in features.items():
                if name != "train" or relate in compared:
                    add(each)
            additions[relate] = add
        except Unavailable as reason:
            missing[relate] = str(reason)
    return additions, missing


def _controls(groups: Groups, additions: Sequence[Callable[[Features], None]], seed: int) -> dict[str, Features]:
    if groups.other is None:
        return {}
    found = {}
    has_spectrograms = groups.real.root.windows.spectrograms is not None
    for name, control in (CONTROLS | OF_SPECTROGRAMS if has_spectrograms else CONTROLS).items():
        base = groups.other if name in OF_TRAINING else groups.real
        found[name] = Features(control(base.windows, np.random.default_rng(seed)))
        for add in additions:
            add(found[name])
    return found
