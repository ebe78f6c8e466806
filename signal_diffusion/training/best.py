"""The validation metric that chooses the best checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

from signal_diffusion.config import schema

__all__ = ["chosen_metric", "to_minimise"]


def chosen_metric(measured: Mapping[str, float], metric: str) -> tuple[str, float]:
    """The name and the value of `training.validation.metric` among what a validation measured.

    Without an average, the loss replaces "ema_loss"; a metric of generated samples that was not measured is NaN.
    """
    is_loss = not metric.startswith(schema.GENERATED)
    return "loss" if is_loss else metric, measured.get(metric, measured["loss"] if is_loss else math.nan)


def to_minimise(metric: str, value: float) -> float:
    """A validation metric, or 1 minus it if larger is better: coverage is a share."""
    return 1 - value if metric in schema.LARGER_IS_BETTER else value
