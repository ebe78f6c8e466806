"""Every integer of an experiment file has a maximum, and no number or file makes a command allocate or hang."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import TypeAdapter

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.schema import Experiment
from signal_diffusion.models.registry import BACKBONES

TABLES = [Experiment, AutoencoderExperiment, *(backbone.architecture for backbone in BACKBONES.values())]


def unbounded(node: Any, where: str) -> Iterator[str]:
    """Integers without a maximum, and lists of integers without a maximum length, in a JSON Schema."""
    if isinstance(node, list):
        for each in node:
            yield from unbounded(each, where)
    if not isinstance(node, dict):
        return
    if node.get("type") == "integer" and not {"maximum", "exclusiveMaximum"} & node.keys():
        yield where
    if node.get("items", {}).get("type") == "integer" and "maxItems" not in node:
        yield f"{where}: length"
    for key, each in node.items():
        yield from unbounded(each, f"{where}.{key}")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_integer_of_every_table_has_a_maximum(table: type) -> None:
    assert list(unbounded(TypeAdapter(table).json_schema(), table.__name__)) == []
