"""All metrics, in the order of a report. A new one is a function in one of these modules and an entry there."""

from __future__ import annotations

from collections.abc import Sequence

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation import (
    adherence,
    copies,
    detection,
    distribution,
    hygiene,
    learned,
    reidentification,
    spatial,
    spectral,
    spectrograms,
    temporal,
    usefulness,
)
from signal_diffusion.evaluation.measurement import Metric

__all__ = ["METRICS", "chosen_metrics"]

METRICS: dict[str, Metric] = {
    metric.name: metric
    for module in (
        *(hygiene, spectral, spectrograms, temporal, spatial, distribution, learned),
        *(detection, copies, reidentification, adherence),
        usefulness,
    )
    for metric in module.METRICS
}


def chosen_metrics(names: Sequence[str] | None, *, quick: bool = False) -> tuple[Metric, ...]:
    """The metrics with these names; None = all, or those of `quick`. Raises `UserError` for an unknown name."""
    if names is None:
        return tuple(metric for metric in METRICS.values() if metric.quick or not quick)
    for name in names:
        if name not in METRICS:
            raise UserError(f"--metrics: unknown metric {name!r}; use some of: {', '.join(METRICS)}")
    return tuple(METRICS[name] for name in dict.fromkeys(names))
