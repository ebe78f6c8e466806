"""Ages and sexes as they are written in tables: one reading for BIDS, subject tables, foreign Parquet and CSV files.

BIDS asks to write ages of 89 and more as `89+`; published tables have ranges such as `18-38`. Codes of the sex are
those of ISO 5218 and EEGLAB: 1 = male, 2 = female.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from signal_diffusion.errors import UserError, listed

__all__ = ["MISSING", "SEXES", "SEX_COLUMNS", "read_ages", "read_sexes"]

MISSING = ("", "n/a", "na", "nan")
"""Spellings of a missing value in lower case."""

SEX_COLUMNS = ("sex", "gender")
"""Columns of the sex, in lower case; the first with a value is used."""

SEXES = {
    **dict.fromkeys(("f", "female", "w", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}
"""Spelling in lower case → category."""

_CODES = {"1": "male", "2": "female"}
_OLDEST = 150  # years; larger numbers are codes for a missing value, such as 999
_NUMBER = r"\d+(?:[.,]\d+)?"

Cell = tuple[str, Any]
"""Place of a value in its table, for messages (`line 4`), and the value; None = missing."""


def read_ages(
    cells: Iterable[Cell], *, table: str, column: str, skip_bad: bool = False, remedy: str = ""
) -> tuple[list[float | None], list[str]]:
    """Read ages in years: `31`, `31.5`, `31,5`, `31Y`, `89+` (89) and `18-38` (28, the middle).

    Returns the ages, and a note for each kind of value that was interpreted or, with `skip_bad`, left out (None).
    Raises a `UserError` that names the values that are no ages: words, negative numbers, numbers above 150 and numbers
    such as `1,234`, which may be 1.234 or 1234. `remedy` ends its message.
    """
    cells = list(cells)
    read = [(None, "") if value is None else _age(str(value).strip()) for _, value in cells]
    found: dict[str, list[tuple[Cell, float | None]]] = defaultdict(list)
    for cell, (age, kind) in zip(cells, read, strict=True):
        if kind:
            found[kind].append((cell, age))
    if bad := found["bad"]:
        named = listed([f"{value!r} ({place})" for (place, value), _ in bad])
        if not skip_bad:
            raise UserError(
                f"{table}: column {column!r}: {len(bad)} of {len(cells)} values are not ages in years: {named}; "
                f"expected numbers such as 31 or 31.5, 89+, or 18-38{remedy}"
            )
    notes = []
    for kind, meaning in (("or more", "the lower limit"), ("range", "the middle")):
        if some := found[kind]:
            ((place, value), age), *_ = some
            notes.append(f"{column}: {_count(some, 'value')} such as {value!r} ({place}) read as {age:g}, {meaning}")
    if bad:
        notes.append(f"{column}: {_count(bad, 'value')} left out, not ages in years: {named}")
    return [age for age, _ in read], notes


def read_sexes(values: Sequence[str | None], *, column: str) -> tuple[dict[str, str | None], list[str]]:
    """Map spellings of a column to `female` and `male`; returns value → category (None = missing), and notes.

    Other values stay as they are. The codes 1 and 2 are read as male and female unless there are other numbers, which
    a note says.
    """
    categories = {
        value: None if value.lower() in MISSING else SEXES.get(value.lower(), value)
        for value in set(values)
        if value is not None
    }
    coded = [value for value in values if value in _CODES]
    if not coded:
        return categories, []
    if others := {each for each in categories.values() if each is not None and each.isdecimal()} - _CODES.keys():
        named = listed([repr(other) for other in sorted(map(str, others))])
        kept = " and ".join(sorted(set(coded)))
        return categories, [f"{column}: {_count(coded, 'value')} ({kept}) not read as a sex, because of {named}"]
    meaning = " and ".join(f"{code} as {_CODES[code]}" for code in sorted(set(coded)))
    return {**categories, **_CODES}, [f"{column}: {_count(coded, 'value')} read by the usual codes, {meaning}"]


@cache
def _age(text: str) -> tuple[float | None, str]:
    """Years, and how they were written: "" for a plain or missing number, `or more`, `range`, or `bad` (no years)."""
    if text.lower() in MISSING:
        return None, ""
    plain = re.fullmatch(rf"({_NUMBER})\s*(\+|[yY])?", text)
    ends = re.fullmatch(rf"({_NUMBER})\s*[-–]\s*({_NUMBER})", text)  # tables have en dashes
    written = ends.groups() if ends else plain.groups()[:1] if plain else ()
    years = [float(each.replace(",", ".")) for each in written if not re.fullmatch(r"[1-9]\d*,\d{3}", each)]
    if not years or len(years) < len(written) or years != sorted(years) or years[-1] > _OLDEST:
        return None, "bad"
    return sum(years) / len(years), "range" if ends else "or more" if plain and plain[2] == "+" else ""


def _count(items: Sequence[Any], noun: str) -> str:
    return f"{len(items)} {noun}{'s' * (len(items) != 1)}"
