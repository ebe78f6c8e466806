"""Compare synthetic with real windows: the value of each metric, its floor, their ratio, and an interval.

The floor is the same metric between two disjoint groups of real people of the same size: a ratio of 1 is as good as
real. Intervals are those of bootstrap draws of people.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from signal_diffusion.evaluation.controls import CONTROLS, OF_TRAINING
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.groups import Groups, draws, matched_groups
from signal_diffusion.evaluation.measurement import Measurement, Metric, Relate
from signal_diffusion.evaluation.metrics import chosen_metrics
from signal_diffusion.evaluation.report import Estimate, Report, Result
from signal_diffusion.evaluation.windows import Windows

__all__ = ["MOST_WINDOWS", "compare_windows"]

MOST_WINDOWS = 1000
"""Largest number of windows of a group; more change little and take longer."""
DRAWS = 10
"""Bootstrap draws of people for the intervals."""
CONFIDENCE = 0.95
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
    notes
        Sentences about the inputs that the report shows.

    Raises
    ------
    UserError
        If a metric is unknown. One that these windows do not have is in the report, with the reason.
    """
    chosen = chosen_metrics(metrics, quick=quick)
    features = {"real": Features(real, is_cached=True), "synthetic": Features(synthetic, is_cached=True)}
    if train is not None:
        features["train"] = Features(train, is_cached=True)
    groups = matched_groups(
        features["real"], features["synthetic"], features.get("train"), most=MOST_WINDOWS, seed=seed
    )
    additions, missing = _related(chosen, features)
    drawn = list(draws(groups, DRAWS, seed))
    classes = _classes(groups)
    faulty = _controls(groups, additions, seed) if controls else {}
    total = len(chosen) * (1 + len(faulty))
    results, done = [], 0
    estimates: dict[str, dict[str, Estimate | None]] = {name: {} for name in faulty}
    for metric in chosen:
        reason = missing.get(metric.against_train)
        results.append(Result(metric=metric, missing=reason) if reason else _judged(metric, groups, drawn, classes))
        for name, made in faulty.items():
            found = None if reason else _total_or_none(metric, replace(groups, synthetic=made))
            estimates[name][metric.name] = found
        done += 1 + len(faulty)
        if on_metric:
            on_metric(done, total)
    return Report(results=tuple(results), controls=estimates, notes=tuple(notes), groups=groups, features=features)


def _related(
    chosen: Sequence[Metric], features: Mapping[str, Features]
) -> tuple[list[Callable[[Features], None]], dict[Relate | None, str]]:
    """Add to the features how they relate to the training windows.

    Returns the functions that do so, for more features, and why others cannot.
    """
    additions: list[Callable[[Features], None]] = []
    missing: dict[Relate | None, str] = {}
    for relate in dict.fromkeys(metric.against_train for metric in chosen if metric.against_train):
        try:
            if "train" not in features:
                raise Unavailable("no training data is given; use --train")
            add = relate(features["train"])
            for name in ("real", "synthetic"):
                add(features[name])
            additions.append(add)
        except Unavailable as reason:
            missing[relate] = str(reason)
    return additions, missing


def _controls(groups: Groups, additions: Sequence[Callable[[Features], None]], seed: int) -> dict[str, Features]:
    if groups.other is None:
        return {}
    found = {}
    for name, control in CONTROLS.items():
        base = groups.other if name in OF_TRAINING else groups.real
        found[name] = Features(control(base.windows, np.random.default_rng(seed)))
        for add in additions:
            add(found[name])
    return found


def _total_or_none(metric: Metric, groups: Groups) -> Estimate | None:
    found = _pair_or_none(metric, groups)
    return None if found is None else _estimate(metric, *found)


def _judged(metric: Metric, groups: Groups, drawn: Sequence[Groups], classes: Mapping[str, Groups]) -> Result:
    whole = groups
    if metric.against_train:  # whose values do not depend on the number of windows
        whole = replace(groups, real=groups.real.root, synthetic=groups.synthetic.root)
    try:
        value, floor = _pair(metric, whole)
    except Unavailable as reason:
        return Result(metric=metric, missing=str(reason))
    if not math.isfinite(value.value) or (floor and not math.isfinite(floor.value)):
        return Result(metric=metric, missing="not a number: an electrode is flat")
    pairs = [_pair_or_none(metric, each) for each in drawn]
    ratios = [_ratio(metric, *pair) for pair in pairs if pair]
    total = _estimate(metric, value, floor)
    by_class = {name: _pair_or_none(metric, each) for name, each in classes.items()}
    return Result(
        metric=metric,
        total=total,
        interval=_interval(total.ratio, ratios),
        value_sd=_spread([pair[0].value for pair in pairs if pair]),
        floor_sd=_spread([pair[1].value for pair in pairs if pair and pair[1]]),
        bands=_parts(metric, value.bands, floor.bands if floor else {}),
        electrodes=_parts(metric, value.electrodes, floor.electrodes if floor else {}),
        classes=_parts(metric, value.classes, floor.classes if floor else {})
        or {name: _estimate(metric, *pair) for name, pair in by_class.items() if pair},
        missing="" if floor else f"no floor: {groups.missing}",
    )


def _pair(metric: Metric, groups: Groups) -> tuple[Measurement, Measurement | None]:
    """The metric's value and its floor."""
    value = metric.compute(groups.real, groups.synthetic)
    if metric.against_train:
        return value, metric.compute(groups.real, groups.real)
    return value, None if groups.other is None else metric.compute(groups.real, groups.other)


def _pair_or_none(metric: Metric, groups: Groups) -> tuple[Measurement, Measurement | None] | None:
    try:
        return _pair(metric, groups)
    except Unavailable:
        return None


def _estimate(metric: Metric, value: Measurement, floor: Measurement | None) -> Estimate:
    return Estimate(
        value=value.value, floor=floor.value if floor else None, ratio=_ratio(metric, value, floor) if floor else None
    )


def _parts(metric: Metric, values: Mapping[str, float], floors: Mapping[str, float]) -> dict[str, Estimate]:
    return {
        name: Estimate(
            value=value, floor=floors.get(name), ratio=metric.ratio(value, floors[name]) if name in floors else None
        )
        for name, value in values.items()
    }


def _ratio(metric: Metric, value: Measurement, floor: Measurement | None) -> float | None:
    return None if floor is None else metric.ratio(value.value, floor.value)


def _interval(ratio: float | None, drawn: Sequence[float | None]) -> tuple[float, float] | None:
    """Interval of a ratio: that of its logarithm, by the spread of the draws and Student's t."""
    logarithms = [math.log(each) for each in drawn if each is not None and each > 0]
    if ratio is None or ratio <= 0 or len(logarithms) < 3:
        return None
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(logarithms) - 1)) * float(np.std(logarithms, ddof=1))
    return ratio * math.exp(-half), ratio * math.exp(half)


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _classes(groups: Groups) -> dict[str, Groups]:
    """The same groups of each label that all of them have, if there are enough windows."""
    sets = [each for each in (groups.real, groups.synthetic, groups.other) if each is not None]
    columns = [column for each in sets if (column := each.windows.column("label")) is not None]
    if len(columns) < len(sets):
        return {}
    found = {}
    for label in sorted(set(columns[0].tolist()) - {""}):
        rows = [np.flatnonzero(column == label) for column in columns]
        if min(map(len, rows)) >= LEAST_OF_CLASS:
            parts = [each.take(some) for each, some in zip(sets, rows, strict=True)]
            other = parts[2] if len(parts) > 2 else None
            found[label] = Groups(real=parts[0], synthetic=parts[1], other=other, missing=groups.missing)
    return found
