"""The list of keys without effect keeps up with the schema."""

from __future__ import annotations

import dataclasses
from operator import attrgetter

import pytest

from signal_diffusion.config import rules
from signal_diffusion.config.schema import Experiment


@pytest.mark.parametrize("entry", rules.READ_ONLY_WITH, ids=lambda entry: f"{entry[0]}.{entry[1]} with {entry[2]}")
def test_every_key_of_the_rules_exists(entry: tuple[str, str, str, tuple[object, ...]]) -> None:
    table, keys, chooser, _ = entry
    names = {field.name for field in dataclasses.fields(attrgetter(table)(Experiment()))}
    assert set(keys.split()) <= names
    assert attrgetter(chooser)(Experiment()) is not None
