"""What guidance buys and what it costs: adherence and fidelity of the same samples at several guidance scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.groups import Groups, draws
from signal_diffusion.evaluation.judging import judged
from signal_diffusion.evaluation.measurement import Metric
from signal_diffusion.evaluation.report import Result
from signal_diffusion.evaluation.windows import Windows

__all__ = ["judged_by_scale"]

FIDELITY = ("lsd", "coverage")
"""Metrics that show what guidance costs, next to all of the conditions."""


def judged_by_scale(
    windows: Mapping[float, Windows],
    groups: Groups,
    metrics: Sequence[Metric],
    add: Callable[[Metric, Features], str],
    *,
    count: int,
    seed: int,
) -> dict[float, tuple[Result, ...]]:
    """Guidance scale → results of the metrics of conditions and of `FIDELITY`, with `count` bootstrap draws.

    Parameters
    ----------
    windows
        Guidance scale → windows, as many as the synthetic ones of `groups` are chosen from.
    add
        Lets features know what a metric needs of the training data; returns why it cannot, or "".
    """
    shown = [metric for metric in metrics if metric.question == "conditions" or metric.name in FIDELITY]
    found = {}
    for scale, each in windows.items():
        features = Features(each)
        missing = {metric.name: add(metric, features) for metric in shown}
        own = replace(groups, synthetic=features.take(groups.synthetic.rows_of_root))
        drawn = list(draws(own, count, seed))
        found[scale] = tuple(
            Result(metric=metric, missing=missing[metric.name])
            if missing[metric.name]
            else judged(metric, own, drawn, {})
            for metric in shown
        )
    return found
