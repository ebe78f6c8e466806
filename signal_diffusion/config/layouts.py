"""Whether an experiment file has today's layout or an older one; `legacy` is only imported for the latter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_older"]

_OLDER_TABLES = (
    *("settings", "dataset.extras", "dataset", "objective", "optimizer", "scheduler.kwargs", "scheduler"),
    *("inference", "model.extras"),
)
_TODAYS_TABLES = (
    *("compute", "data.paths", "data.columns", "data.loading", "data.augmentation", "data.balancing"),
    *("model.architecture", "model.diffusion", "model.conditioning", "model.autoencoder"),
    *("training.optimizer", "training.scheduler", "training.ema", "training.checkpointing", "training.validation"),
    *("training.visualization", "training.performance", "training.resume", "generation", "output"),
)


def is_older(tables: Mapping[str, Any]) -> bool:
    """Whether TOML tables have an older layout: at least as many tables as are only in today's are only in older ones.

    YAML always has an older layout.
    """
    older = sum(isinstance(_found(tables, name), Mapping) for name in _OLDER_TABLES)
    older += isinstance(_found(tables, "model.conditioning"), str)
    todays = sum(isinstance(_found(tables, name), Mapping) for name in _TODAYS_TABLES)
    return bool(older) and older >= todays


def _found(tables: Mapping[str, Any], name: str) -> Any:
    found: Any = tables
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
