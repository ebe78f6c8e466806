"""Columns of foreign datasets: described as in a card, and converted to its values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from signal_diffusion.data.ages_and_sexes import SEX_COLUMNS, read_ages, read_sexes
from signal_diffusion.data.card import MAX_CATEGORIES
from signal_diffusion.data.foreign.rows import Rows
from signal_diffusion.errors import UserError

__all__ = ["described_columns", "is_number"]

_CATEGORICAL = {"label", "gender", "health", "electrode", "dataset"}
_TEXT = {"caption", "subject", "recording"}


def described_columns(
    splits: Mapping[str, Rows], columns: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[Any]]], list[str]]:
    """Describe each column as in a card, and convert its values: split → column → values; and notes on them.

    `columns` is our name → the dataset's. Label, gender, health and electrode are categorical, age is numeric,
    captions are text, and the window is an index if all values are whole numbers. Other columns are numeric if all
    values are numbers, categorical with up to 100 distinct texts, and text otherwise. Empty columns are left out.
    """
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    described: dict[str, dict[str, Any]] = {}
    stored: dict[str, dict[str, list[Any]]] = {split: {} for split in splits}
    notes: list[str] = []
    for name in dict.fromkeys(name for rows in splits.values() for name in rows.columns):
        raw = {split: rows.columns.get(name, [None] * rows.count) for split, rows in splits.items()}
        distinct = {value for values in raw.values() for value in values if value is not None}
        declared = [each for rows in splits.values() for each in rows.names.get(name, ())]
        ours = "gender" if name.lower() in SEX_COLUMNS else ours_of.get(name, name)
        kind = "categorical" if declared else _kind(ours, distinct)
        if ours == "age" and kind == "numeric":
            values, found = _ages(name, raw, splits)
            notes += found
        else:
            converted: dict[Any, Any] = {value: _convert(value, kind, name) for value in distinct}
            if ours == "gender":
                words = [converted.get(value) for each in raw.values() for value in each]
                sexes, found = read_sexes([*words, *declared], column=name)
                notes += found
                converted = {value: sexes[word] for value, word in converted.items()}
                declared = [each for word in declared if (each := sexes[word]) is not None]
            values = {split: [converted.get(value) for value in each] for split, each in raw.items()}
        known = [value for value in values["train"] if value is not None]
        if distinct and kind == "numeric" and not known:
            notes.append(f"{name}: left out, because no row of the training split has a number")
        if not distinct or (kind == "numeric" and not known):
            continue
        described[name] = {"kind": kind}
        if kind == "categorical":
            described[name]["names"] = list(
                dict.fromkeys(declared or sorted({*converted.values()} - {None}, key=_natural))
            )
            _check_categories(name, values, described[name]["names"])
        elif kind == "numeric":
            described[name] |= {"mean": float(np.mean(known)), "std": float(np.std(known)) or 1.0}
        for split in splits:
            stored[split][name] = values[split]
    return described, stored, notes


def _ages(
    column: str, raw: Mapping[str, Sequence[Any]], splits: Mapping[str, Rows]
) -> tuple[dict[str, list[float | None]], list[str]]:
    cells = [(splits[split].place(row), value) for split, values in raw.items() for row, value in enumerate(values)]
    remedy = "; correct them, or leave the cells empty"
    ages, notes = read_ages(cells, table="[data.columns]", column=column, remedy=remedy)
    rest = iter(ages)
    return {split: [next(rest) for _ in values] for split, values in raw.items()}, notes


def _check_categories(column: str, values: Mapping[str, Iterable[Any]], names: Sequence[str]) -> None:
    """Raise a `UserError` if a value of one split is not among the categories that another one declares."""
    for split, each in values.items():
        for value in each:
            if value is not None and value not in names:
                raise UserError(
                    f"column {column!r}: {value!r} in the split {split!r} is not one of the declared {', '.join(names)}"
                )


def _kind(name: str, values: Iterable[Any]) -> str:
    values = list(values)
    if name in _CATEGORICAL:
        return "categorical"
    if name in _TEXT:
        return "text"
    if name == "window" and all(_is_index(value) for value in values):
        return "index"
    if name == "age" or all(is_number(value) for value in values):
        return "numeric"
    return "categorical" if len(values) <= MAX_CATEGORIES else "text"


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, or text of one."""
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except ValueError:
        return False


def _convert(value: Any, kind: str, column: str) -> Any:
    if kind == "index":
        return int(float(value))
    return _number(value, column) if kind == "numeric" else _word(value)


def _is_index(value: Any) -> bool:
    return is_number(value) and float(value).is_integer() and 0 <= float(value) < 2**31  # stored as int32


def _number(value: Any, column: str) -> float:
    if not is_number(value):
        raise UserError(f"[data.columns] {column!r} has the value {value!r}; expected numbers")
    return float(value)


def _word(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)  # pandas writes integers with gaps as floats


def _natural(name: str) -> tuple[float, str]:
    """Sort key: numbers in numeric order, before words."""
    return (float(name) if is_number(name) else math.inf, name)
