"""Nested tables, flattened to dotted keys, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["dotted", "nested"]


def dotted(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each (dotted key, value) in order; an empty table yields nothing."""
    for key, value in tables.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of dotted keys; if there is a value in the place of a table, the keys of that table are left out."""
    tables: dict[str, Any] = {}
    for key, value in values.items():
        *above, last = key.split(".")
        if not any(".".join(above[:end]) in values for end in range(1, len(above) + 1)):
            table = tables
            for part in above:
                table = table.setdefault(part, {})
            table[last] = value
    return tables
