"""Who the people are: tables of subjects, BIDS' participants.tsv or a table of one's own."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError

__all__ = ["described", "number_in", "other_columns", "read_subjects", "row_of"]

_ID_COLUMNS = ("participant_id", "subject", "subject_id", "id")
_GENDER_COLUMNS = ("sex", "gender")
_HEALTH_COLUMNS = ("health", "group", "diagnosis", "status")
_MISSING = ("", "n/a", "na", "nan")
_GENDERS = {"female": ("f", "female", "w", "woman"), "male": ("m", "male", "man")}


def read_subjects(path: Path) -> dict[str, dict[str, str]]:
    """Read a table of people: id as it stands there → the row, missing values (empty, n/a, NA, nan) left out.

    Tabs separate the columns of a .tsv, and commas, semicolons or tabs those of a .csv. One column is the id:
    participant_id, subject, subject_id or id, in any case. Raises `UserError` where nothing can be made of it.
    """
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise UserError(f"{path}: a table of subjects is a .csv or a .tsv; save it as one of them")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _lines(file.read(), path.suffix.lower())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give a table of subjects") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error}); save it as CSV or TSV") from error
    if not lines:
        raise UserError(f"{path}: is empty; expected a line with the names of the columns, then one per person")
    return _rows(path, lines)


def row_of(subjects: Mapping[str, dict[str, str]], subject: str) -> dict[str, str] | None:
    """Find a person's row; `sub-` before the id is optional, here and in the table."""
    bare = _bare(subject)
    for name in (subject, bare, f"sub-{bare}"):
        if name in subjects:
            return subjects[name]
    return None


def described(recording: Recording, row: Mapping[str, str]) -> Recording:
    """Add what a row says of the person; where it is silent, what was known stays.

    Gender is taken from sex or gender, age (years) from age, health from health, group, diagnosis or status,
    whichever comes first and has a value. Codes such as 1 and 2 are not guessed.
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
    """List the columns of a table that `described` has no use for, by name."""
    lower = {name.strip().lower() for name in names}
    used = {*_ID_COLUMNS, *_GENDER_COLUMNS, "age", *[name for name in _HEALTH_COLUMNS if name in lower][:1]}
    return sorted(name for name in names if name.strip().lower() not in used)


def number_in(text: str) -> float | None:
    """Read a number as tables have them: `31`, `-1.5`, `1e-3`, `31,5`; a code such as `007` is none."""
    found = re.fullmatch(r"[+-]?(0|[1-9]\d*)([.,]\d+)?([eE][+-]?\d+)?", text)
    return float(text.replace(",", ".")) if found else None


def _lines(text: str, suffix: str) -> list[tuple[int, list[str]]]:
    """Split into fields; gives (number of the line, its fields), blank lines left out."""
    header = text.lstrip().partition("\n")[0]
    delimiter = "\t" if suffix == ".tsv" else max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [(reader.line_num, [field.strip() for field in fields]) for fields in reader if any(fields)]


def _rows(path: Path, lines: list[tuple[int, list[str]]]) -> dict[str, dict[str, str]]:
    (_, header), *body = lines
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have one name, among {', '.join(header)}; rename one")
    ids = [name for wanted in _ID_COLUMNS for name in header if name.lower() == wanted]
    if not ids:
        raise UserError(
            f"{path}: has no column participant_id (or subject, subject_id, id), only {', '.join(header)}; name it so"
        )
    rows: dict[str, dict[str, str]] = {}
    lines_of: dict[str, int] = {}
    for number, fields in body:
        if len(fields) != len(header):
            raise UserError(
                f"{path}: line {number} has {len(fields)} fields and the first line {len(header)}; put it right"
            )
        row = {name: value for name, value in zip(header, fields, strict=True) if value.lower() not in _MISSING}
        if ids[0] not in row:
            raise UserError(f"{path}: line {number} has no {ids[0]}; give one, or leave out the line")
        name = row[ids[0]]
        if _bare(name) in lines_of:
            raise UserError(f"{path}: {name} stands in line {lines_of[_bare(name)]} and in line {number}; keep one")
        lines_of[_bare(name)] = number
        rows[name] = row
    return rows


def _bare(subject: str) -> str:
    return subject.removeprefix("sub-")


def _gender(text: str | None) -> str | None:
    usual = {word: gender for gender, words in _GENDERS.items() for word in words}
    return text if text is None else usual.get(text.lower(), text)


def _years(text: str | None) -> float | None:
    """Read `31`, `31.5`, `31,5` and `31Y`; nothing else is an age."""
    years = number_in(re.sub(r"\s*[yY]$", "", text or ""))
    return years if years is None or years >= 0 else None
