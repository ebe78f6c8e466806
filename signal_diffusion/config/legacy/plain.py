"""What an experiment file may hold: numbers of 64 bits, text, true and false, in lists and tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["DEEPEST", "is_plain", "plain", "shown"]

DEEPEST = 16


def plain(tables: Mapping[str, Any], prefix: str = "", depth: int = 0) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """A copy of the tables with what they may hold, and the rest as (dotted key, message)."""
    kept: dict[str, Any] = {}
    problems = []
    for key, value in tables.items():
        if isinstance(value, Mapping) and depth < DEEPEST:
            kept[key], further = plain(value, f"{prefix}{key}.", depth + 1)
            problems += further
        elif is_plain(value, depth):
            kept[key] = value
        else:
            problems.append((f"{prefix}{key}", f"expected text, or a number of at most 64 bits, found {_found(value)}"))
    return kept, problems


def is_plain(value: Any, depth: int = 0) -> bool:
    """Whether a value, or all of a list, is what keys may hold; no date, and no number of thousands of digits."""
    if isinstance(value, list | tuple | Mapping):
        within = value.values() if isinstance(value, Mapping) else value
        return depth < DEEPEST and all(is_plain(each, depth + 1) for each in within)
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    return value is None or isinstance(value, str | float)


def shown(value: Any) -> str:
    """A value as people read it in a message, or in a comment of TOML."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _found(value: Any) -> str:
    if isinstance(value, int):
        return f"one of {value.bit_length()} bits"
    if isinstance(value, list | tuple | Mapping):
        return f"a list or table that holds something else, or more than {DEEPEST} in each other"
    return str(value)
