"""Values that an experiment file may contain: numbers of at most 64 bits, strings, booleans, in lists and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_DEPTH", "is_plain", "num_values", "plain", "shown"]

MAX_DEPTH = 16
"""Most levels of nested tables and lists."""


def plain(tables: Mapping[str, Any], prefix: str = "", depth: int = 0) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A copy of the tables with the plain values, and for all others (dotted key, message)."""
    kept: dict[str, Any] = {}
    problems = []
    for key, value in tables.items():
        if isinstance(value, Mapping) and depth < MAX_DEPTH:
            kept[key], further = plain(value, f"{prefix}{key}.", depth + 1)
            problems += further
        elif is_plain(value, depth):
            kept[key] = value
        else:
            problems.append(
                (f"{prefix}{key}", f"expected a string or a number of at most 64 bits, found {_found(value)}")
            )
    return kept, problems


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value, or all values in a list or table, are plain; dates and huge integers are not."""
    if isinstance(value, list | tuple | Mapping):
        within = value.values() if isinstance(value, Mapping) else value
        return depth < MAX_DEPTH and all(is_plain(each, depth + 1) for each in within)
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return value is None or isinstance(value, str | float)


def num_values(value: Any) -> int:
    """Number of values in tables and lists, these included."""
    if isinstance(value, list | tuple | Mapping):
        return 1 + sum(num_values(each) for each in (value.values() if isinstance(value, Mapping) else value))
    return 1


def shown(value: Any) -> str:
    """A value as text for a message or for a TOML comment."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _found(value: Any) -> str:
    if isinstance(value, int):
        return f"one of {value.bit_length()} bits"
    if isinstance(value, list | tuple | Mapping):
        return f"a list or table with another type in it, or nested more than {MAX_DEPTH} deep"
    return str(value)
