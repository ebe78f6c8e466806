"""Subject tables: BIDS participants.tsv, or a table given by the user."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError

__all__ = ["other_columns", "parse_number", "read_subjects", "row_of", "with_attributes"]

_ID_COLUMNS = ("participant_id", "subject", "subject_id", "id")
_GENDER_COLUMNS = ("sex", "gender")
_HEALTH_COLUMNS = ("health", "group", "diagnosis", "status")
_MISSING = ("", "n/a", "na", "nan")
_GENDERS = {"female": ("f", "female", "w", "woman"), "male": ("m", "male", "man")}


def read_subjects(path: Path) -> dict[str, dict[str, str]]:
    """Read a subject table: id as written → row without missing values (empty, n/a, NA, nan).

    Columns are separated by tabs in a .tsv, and by commas, semicolons or tabs in a .csv. One column is the id:
    participant_id, subject, subject_id or id, in any case. Raises `UserError` if the table cannot be used.
    """
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise UserError(f"{path}: expected a subject table as .csv or .tsv; save it as one of them")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(file.read(), path.suffix.lower())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a subject table") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error}); save it as CSV or TSV") from error
    if not lines:
        raise UserError(f"{path}: empty; expected a line with the names of the columns, then one line per subject")
    return _rows(path, lines)


def row_of(subjects: Mapping[str, dict[str, str]], subject: str) -> dict[str, str] | None:
    """Find a subject's row; the prefix `sub-` is optional, here and in the table."""
    bare = _bare(subject)
    for name in (subject, bare, f"sub-{bare}"):
        if name in subjects:
            return subjects[name]
    return None


def with_attributes(recording: Recording, row: Mapping[str, str]) -> Recording:
    """Add the attributes in a row to a recording; attributes without a value in the row are kept.

    Gender is taken from sex or gender, age (years) from age, health from health, group, diagnosis or status: the first
    of these with a value. Codes such as 1 and 2 are not interpreted.
    """
    values = {name.strip().lower(): value for name, value in row.items()}

    def first(*names: str) -> str | None:
        return next((values[name] for name in names if name in values), None)

    age = _years(first("age"))
    return replace(
        recording,
        gender=_gender(first(*_GENDER_COLUMNS)) or recording.gender,
        age=recording.age if age is None else age,
        health=first(*_HEALTH_COLUMNS) or recording.health,
        participant={**recording.participant, **row},
    )


def other_columns(names: Collection[str]) -> list[str]:
    """Sorted columns of a table that `with_attributes` does not use."""
    lower = {name.strip().lower() for name in names}
    used = {*_ID_COLUMNS, *_GENDER_COLUMNS, "age", *[name for name in _HEALTH_COLUMNS if name in lower][:1]}
    return sorted(name for name in names if name.strip().lower() not in used)


def parse_number(text: str) -> float | None:
    """Parse a number: `31`, `-1.5`, `1e-3`, `31,5`; None for anything else, also for a code such as `007`."""
    found = re.fullmatch(r"[+-]?(0|[1-9]\d*)([.,]\d+)?([eE][+-]?\d+)?", text)
    return float(text.replace(",", ".")) if found else None


def _lines(text: str, suffix: str) -> list[tuple[int, list[str]]]:
    """Split a table into (line number, fields), without blank lines."""
    header = text.lstrip().partition("\n")[0]
    delimiter = "\t" if suffix == ".tsv" else max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [(reader.line_num, [field.strip() for field in fields]) for fields in reader if any(fields)]


def _rows(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, dict[str, str]]:
    (_, header), *body = lines
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have the same name, among {', '.join(header)}; rename one")
    ids = [name for wanted in _ID_COLUMNS for name in header if name.lower() == wanted]
    if not ids:
        raise UserError(
            f"{path}: no column participant_id (or subject, subject_id, id), only {', '.join(header)}; "
            "rename the id column"
        )
    rows: dict[str, dict[str, str]] = {}
    lines_of: dict[str, int] = {}
    for number, fields in body:
        if len(fields) != len(header):
            raise UserError(
                f"{path}: line {number} has {len(fields)} fields, but the first line has {len(header)}; fix the line"
            )
        row = {name: value for name, value in zip(header, fields, strict=True) if value.lower() not in _MISSING}
        if ids[0] not in row:
            raise UserError(f"{path}: line {number} has no {ids[0]}; add one or remove the line")
        name = row[ids[0]]
        if _bare(name) in lines_of:
            raise UserError(f"{path}: {name} is in line {lines_of[_bare(name)]} and in line {number}; keep one of them")
        lines_of[_bare(name)] = number
        rows[name] = row
    return rows


def _bare(subject: str) -> str:
    return subject.removeprefix("sub-")


def _gender(text: str | None) -> str | None:
    usual = {word: gender for gender, words in _GENDERS.items() for word in words}
    return text if text is None else usual.get(text.lower(), text)


def _years(text: str | None) -> float | None:
    """Parse an age: `31`, `31.5`, `31,5` or `31Y`; None for anything else."""
    years = parse_number(re.sub(r"\s*[yY]$", "", text or ""))
    return years if years is None or years >= 0 else None
