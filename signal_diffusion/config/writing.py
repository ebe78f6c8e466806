"""Write an experiment as the text of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import tomli_w

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules.effects import without_effect
from signal_diffusion.config.schema import Experiment

__all__ = ["to_toml"]


def to_toml(experiment: Experiment | AutoencoderExperiment) -> str:
    """The text of a file that reads back as an equal experiment; keys without a value or effect are left out."""
    return tomli_w.dumps(_resolved(dataclasses.asdict(experiment), "", without_effect(experiment)))


def _resolved(tables: dict[str, Any], prefix: str, without_effect: Collection[str]) -> dict[str, Any]:
    return {
        key: _resolved(value, f"{prefix}{key}.", without_effect) if isinstance(value, dict) else value
        for key, value in tables.items()
        if value is not None and f"{prefix}{key}" not in without_effect
    }
