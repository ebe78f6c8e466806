"""The result of one metric: its value, its floor, their ratio, and an interval by bootstrap draws of people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from signal_diffusion.evaluation.features import Unavailable
from signal_diffusion.evaluation.groups import Groups
from signal_diffusion.evaluation.measurement import Measurement, Metric
from signal_diffusion.evaluation.report import Estimate, Result

__all__ = ["judged", "total_or_none"]

CONFIDENCE = 0.95


def judged(metric: Metric, groups: Groups, drawn: Sequence[Groups], classes: Mapping[str, Groups]) -> Result:
    """The result of a metric, or the reason why these windows do not have it.

    Parameters
    ----------
    drawn
        Draws of the groups, for the interval.
    classes
        Label → the groups of its windows.
    """
    whole = groups
    if metric.against_train or (metric.floor_of_train and groups.train is not None):
        # Values that do not depend on the number of windows, or on that of the training windows only.
        whole = replace(groups, real=groups.real.root, synthetic=groups.synthetic.root)
    if too_few := _too_few(metric, whole):
        return Result(metric=metric, missing=too_few)
    try:
        value, floor = _pair(metric, whole)
    except Unavailable as reason:
        return Result(metric=metric, missing=str(reason))
    if not math.isfinite(value.value) or (floor and not math.isfinite(floor.value)):
        return Result(metric=metric, missing="not a number: an electrode is flat")
    if floor and metric.least_floor is not None and floor.value < metric.least_floor:
        return Result(
            metric=metric,
            missing=f"{metric.unit} is {floor.value:.2f} with real windows, which is too little to judge others by; at "
            f"least {metric.least_floor:g} is needed",
        )
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


def _too_few(metric: Metric, groups: Groups) -> str:
    """Why there are too few windows for a metric: those of the smallest set, since all groups have its size."""
    sets = {"real": groups.real, "synthetic": groups.synthetic, "training": groups.other}
    size = min(len(groups.real), len(groups.synthetic))
    if size >= metric.least:
        return ""
    name = next((name for name, each in sets.items() if each is not None and len(each.root) == size), "")
    return f"{size} {name or 'comparable'} window{'s' * (size != 1)}; at least {metric.least} are needed"


def _pair(metric: Metric, groups: Groups) -> tuple[Measurement, Measurement | None]:
    """The metric's value and its floor."""
    value = metric.compute(groups.real, groups.synthetic)
    if metric.against_train:
        return value, metric.compute(groups.real, groups.real)
    other = groups.train if metric.floor_of_train and groups.train is not None else groups.other
    return value, None if other is None else metric.compute(groups.real, other)


def _pair_or_none(metric: Metric, groups: Groups) -> tuple[Measurement, Measurement | None] | None:
    try:
        return _pair(metric, groups)
    except Unavailable:
        return None


def _estimate(metric: Metric, value: Measurement, floor: Measurement | None) -> Estimate:
    return Estimate(value=value.value, floor=floor.value if floor else None, ratio=_ratio(metric, value, floor))


def _parts(metric: Metric, values: Mapping[str, float], floors: Mapping[str, float]) -> dict[str, Estimate]:
    return {
        name: Estimate(
            value=value, floor=floors.get(name), ratio=metric.ratio(value, floors[name]) if name in floors else None
        )
        for name, value in values.items()
    }


def _ratio(metric: Metric, value: Measurement, floor: Measurement | None) -> float | None:
    return None if floor is None else metric.ratio(value.value, floor.value, value.chance)


def _interval(ratio: float | None, drawn: Sequence[float | None]) -> tuple[float, float] | None:
    """Interval of a ratio: that of its logarithm, by the spread of the draws and Student's t."""
    logarithms = [math.log(each) for each in drawn if each is not None and each > 0]
    if ratio is None or ratio <= 0 or len(logarithms) < 3:
        return None
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(logarithms) - 1)) * float(np.std(logarithms, ddof=1))
    return ratio * math.exp(-half), ratio * math.exp(half)


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def total_or_none(metric: Metric, groups: Groups) -> Estimate | None:
    """Only the value, its floor and their ratio; None if these windows do not have them."""
    found = _pair_or_none(metric, groups)
    return None if found is None else _estimate(metric, *found)
