"""What Parquet files state about their signals: `sampling_rate`, `ch_names` and `unit`, as exports write them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from signal_diffusion.data.foreign.columns import is_number
from signal_diffusion.data.foreign.rows import Rows
from signal_diffusion.errors import UserError

__all__ = ["SIGNAL_METADATA", "signal_metadata"]


def signal_metadata(splits: Iterable[Rows]) -> dict[str, Any]:
    """Merge the metadata of all files: `sampling_rate` in Hz, `ch_names` and `unit`, None if not stated.

    Raises `UserError` for the first file with an invalid value, or a value that differs from a previous file.
    """
    first: dict[str, tuple[Path, Any]] = {}
    for path, entries in ((path, entries) for rows in splits for path, entries in rows.about.items()):
        for key, value in entries.items():
            fits, expected = SIGNAL_METADATA[key]
            if not fits(value):
                raise UserError(f"{path}: its metadata state {key} {value!r}; expected {expected}")
            other, previous = first.setdefault(key, (path, value))
            if value != previous:
                raise UserError(
                    f"{path}: {key} {value!r}, but {other} states {previous!r}; expected the same in all files"
                )
    return {key: first[key][1] if key in first else None for key in SIGNAL_METADATA}


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and is_number(value) and value > 0


def _are_electrodes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len({*value}) == len(value)


SIGNAL_METADATA: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sampling_rate": (_is_rate, "a number above 0, in Hz"),
    "ch_names": (_are_electrodes, "a list of unique names"),
    "unit": (lambda value: value == "µV", "'µV'; convert the signals first"),
}
"""Entry of a file's metadata → its check, and what is expected."""
