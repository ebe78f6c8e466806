"""Check the entries of a card, so that a damaged or impossible one is a line instead of a traceback later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from signal_diffusion.data.montages import ENTRY
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import is_within

__all__ = ["check_entries", "shown"]


def check_entries(entries: Mapping[str, Any]) -> None:
    """Check the entries of a `DatasetCard` as read from JSON.

    Raises
    ------
    UserError
        For the first entry that has another type, or a value that is impossible.
    """
    for name, (fits, expected) in _EXPECTED.items():
        if name in entries and not fits(entries[name]):
            raise UserError(f"{name}: expected {expected}, found {shown(entries[name])}")
    for name in entries["columns"]:
        _check_column(name, entries["columns"][name])
    for name in entries["splits"]:
        _check_split(name, entries["splits"][name])
    for name, digest in entries.get("files", {}).items():
        if not _is_text(digest) or not is_within(name):
            raise UserError(f"files: {name}: expected a path within the dataset and its SHA-256, found {shown(digest)}")


def shown(value: Any) -> str:
    """A value as errors show it, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _check_column(name: str, column: Any) -> None:
    kind = column.get("kind") if isinstance(column, dict) else None
    needed = _COLUMNS.get(kind) if isinstance(kind, str) else None
    if needed is None or not needed.keys() <= column.keys():
        raise UserError(f"columns: {name}: expected a kind ({', '.join(_COLUMNS)}) and its statistics")
    for key, (fits, expected) in needed.items():
        if not fits(column[key]):
            raise UserError(f"columns: {name}: {key}: expected {expected}, found {shown(column[key])}")


def _check_split(name: str, split: Any) -> None:
    if not is_within(name) or "/" in name:
        raise UserError(f"splits: expected names of folders in the dataset, found {shown(name)}")
    if not (isinstance(split, dict) and _SPLIT.keys() <= split.keys()):
        raise UserError(f"splits: {name}: expected {', '.join(_SPLIT)}")
    for key, (fits, expected) in _SPLIT.items():
        if not fits(split[key]):
            raise UserError(f"splits: {name}: {key}: expected {expected}, found {shown(split[key])}")
    if not _are_ranges(split.get("ranges", {})):
        raise UserError(f"splits: {name}: ranges: expected two numbers for each, found {shown(split['ranges'])}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_representation(value: Any) -> bool:
    texts = ("name", "layout", "inverse", "column")
    return _is_table(value) and all(_is_text(value.get(key)) for key in texts) and _is_table(value.get("parameters"))


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_count(size) and size for size in value)


def _are_positions(value: Any) -> bool:
    return _is_table(value) and all(
        isinstance(each, list) and len(each) == 3 and all(map(_is_number, each)) for each in value.values()
    )


def _are_sources(value: Any) -> bool:
    keys = {"name", "license", "description"}
    return isinstance(value, list) and all(_is_table(each) and keys <= each.keys() for each in value)


def _are_marginals(value: Any) -> bool:
    return _is_table(value) and all(
        _is_table(column)
        and all(_is_table(each) and {"examples", "share"} <= each.keys() for each in column.values())
        and all(_is_number(number) for each in column.values() for number in each.values())
        for column in value.values()
    )


def _are_ranges(value: Any) -> bool:
    return _is_table(value) and all(
        isinstance(each, list) and len(each) == 2 and all(map(_is_number, each)) for each in value.values()
    )


def _is_preprocessing(value: Any) -> bool:
    montages = value.get(ENTRY, []) if _is_table(value) else None
    return isinstance(montages, list) and all(
        _is_table(each)
        and _is_texts(each.get("absent"))
        and all(
            _is_table(each.get(what)) and all(map(_is_count, each[what].values())) for what in ("subjects", "examples")
        )
        for each in montages
    )


def _or_null(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


_Entry = tuple[Callable[[Any], bool], str]
_EXPECTED: dict[str, _Entry] = {
    "representation": (_is_representation, "name, layout, inverse, column and parameters"),
    "shape": (_is_shape, "three positive whole numbers"),
    "sampling_rate": (_or_null(_is_positive), "a positive number of Hz, or null"),
    "window": (_or_null(lambda value: _is_count(value) and value > 0), "a positive number of samples, or null"),
    "tmin": (_or_null(_is_number), "a number of seconds, or null"),
    "channels": (_is_texts, "a list of names"),
    "positions": (_are_positions, "three numbers for each electrode"),
    "columns": (_is_table, "a table"),
    "splits": (lambda value: _is_table(value) and bool(value), "a table of splits"),
    "captions": (_is_text, "text"),
    "preprocessing": (_is_preprocessing, f"a table, with absent, subjects and examples of each of its {ENTRY}"),
    "sources": (_are_sources, "a list of tables with name, license and description"),
    "rejected": (lambda value: _is_table(value) and all(map(_is_count, value.values())), "a table of counts"),
    "skipped": (_is_texts, "a list of texts"),
    "command": (_is_text, "text"),
    "made_from": (_is_text, "text"),
    "files": (_is_table, "a table"),
    "amplitudes": (
        lambda value: _is_table(value) and all(map(_is_number, value.values())),
        "a table of quantiles in µV",
    ),
    "unit": (_or_null(_is_text), "text, or null"),
}
_COLUMNS: dict[str, dict[str, _Entry]] = {
    "categorical": {"names": (_is_texts, "a list of names")},
    "numeric": {"mean": (_is_number, "a number"), "std": (_is_positive, "a positive number")},
    "text": {},
    "index": {},
}
_SPLIT: dict[str, _Entry] = {
    "examples": (_is_count, "a count"),
    "windows": (_is_count, "a count"),
    "subjects": (_is_texts, "a list of names"),
    "marginals": (_are_marginals, "the examples and share of each category"),
}
