"""Rows of one split of a foreign dataset: tensors a few at a time, and all other columns at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Rows", "text_or_none"]

_MISSING = {"", "n/a"}  # n/a as in BIDS


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One split of a foreign dataset."""

    tensors: Callable[[], Iterator[tuple[str, Any]]]
    """Iterates over all rows: location (for errors), and a `RawImage` or µV (electrodes, samples) float32."""
    count: int
    columns: dict[str, list[Any]]
    """All other columns; None = unknown."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Column → its categories in order, if the dataset declares them."""
    place: Callable[[int], str] = "row {}".format
    """Number of a row → where it is, for messages."""
    about: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    """File → its metadata about signals, not validated: any of `sampling_rate`, `ch_names` and `unit`."""


def text_or_none(value: str | None) -> str | None:
    """Text without spaces around it; None for empty cells and n/a."""
    return None if value is None or value.strip().lower() in _MISSING else value.strip()
