"""Subject tables: BIDS participants.tsv, or a table given by the user."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from signal_diffusion.data.ages_and_sexes import MISSING, SEX_COLUMNS, SEXES
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import read_json

__all__ = [
    "ID_COLUMNS",
    "SubjectRow",
    "first_value",
    "other_columns",
    "parse_number",
    "read_subjects",
    "row_of",
    "with_attributes",
]

ID_COLUMNS = ("participant_id", "subject", "subject_id", "id")
_HEALTH_COLUMNS = ("health", "group", "diagnosis", "status")


class SubjectRow(dict[str, str]):
    """A row of a subject table without missing values: column → text; and where it was read."""

    def __init__(self, cells: Mapping[str, str], table: Path, line: int) -> None:
        super().__init__(cells)
        self.table = table
        self.line = line


def read_subjects(path: Path, keys: Sequence[str] = ID_COLUMNS) -> dict[str, SubjectRow]:
    """Read a subject table: id as written → row without missing values (empty, n/a, NA, nan).

    Columns are separated by tabs in a .tsv, and by commas, semicolons or tabs in a .csv. One column is the id:
    participant_id, subject, subject_id or id, or one of `keys`, in any case. Codes of the sex that a JSON file of the
    same name declares as Levels, such as {"1": "male"}, are replaced by their meaning. Raises `UserError` if the table
    cannot be used.
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
    return _rows(path, lines, keys)


def row_of(subjects: Mapping[str, SubjectRow], subject: str) -> SubjectRow | None:
    """Find a subject's row; the prefix `sub-` is optional, here and in the table."""
    bare = _bare(subject)
    for name in (subject, bare, f"sub-{bare}"):
        if name in subjects:
            return subjects[name]
    return None


def with_attributes(recording: Recording, row: Mapping[str, str]) -> Recording:
    """Add a row to a recording; what is known already is kept where the row has no value.

    Health is taken from health, group, diagnosis or status: the first of these with a value. Sex and age are read by
    `personal.with_ages_and_sexes`, when all tables are known: a later table may correct an earlier one.
    """
    earlier = {name: place for name, place in recording.places.items() if name not in row}
    places = dict.fromkeys(row, (row.table, row.line)) if isinstance(row, SubjectRow) else {}
    return replace(
        recording,
        health=first_value(row, _HEALTH_COLUMNS) or recording.health,
        participant={**recording.participant, **row},
        places={**earlier, **places},
    )


def first_value(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """First value among columns, named in any case; None if there is none."""
    values = {name.strip().lower(): value for name, value in row.items()}
    return next((values[name] for name in names if name in values), None)


def other_columns(names: Collection[str]) -> list[str]:
    """Sorted columns of a table that `with_attributes` does not use."""
    lower = {name.strip().lower() for name in names}
    used = {*ID_COLUMNS, *SEX_COLUMNS, "age", *[name for name in _HEALTH_COLUMNS if name in lower][:1]}
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


def _rows(path: Path, lines: list[tuple[int, list[str]]], keys: Sequence[str]) -> dict[str, SubjectRow]:
    (_, header), *body = lines
    if len(set(header)) < len(header):
        raise UserError(f"{path}: two columns have the same name, among {', '.join(header)}; rename one")
    ids = [name for wanted in keys for name in header if name.lower() == wanted]
    if not ids:
        raise UserError(
            f"{path}: no column {keys[0]} (or {', '.join(keys[1:])}), only {', '.join(header)}; "
            f"rename the {'id column' if keys == ID_COLUMNS else 'column of file names'}"
        )
    declared = _declared_sexes(path, header)
    rows: dict[str, SubjectRow] = {}
    lines_of: dict[str, int] = {}
    for number, fields in body:
        if len(fields) != len(header):
            raise UserError(
                f"{path}: line {number} has {len(fields)} fields, but the first line has {len(header)}; fix the line"
            )
        cells = {name: value for name, value in zip(header, fields, strict=True) if value.lower() not in MISSING}
        row = SubjectRow({name: declared.get(name, {}).get(cells[name], cells[name]) for name in cells}, path, number)
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


def _declared_sexes(path: Path, columns: Sequence[str]) -> dict[str, dict[str, str]]:
    """Levels that the JSON file beside a .tsv declares for sex or gender: column → code → meaning."""
    sidecar = path.with_suffix(".json")
    if path.suffix.lower() != ".tsv" or not sidecar.exists():
        return {}
    described = read_json(sidecar, dict[str, Any], "fix it or remove it")
    about = {name: described.get(name) for name in columns}
    levels = {name: each.get("Levels") for name, each in about.items() if isinstance(each, dict)}
    return {
        name: {code: _meaning(code, text) for code, text in each.items()}
        for name, each in levels.items()
        if name.lower() in SEX_COLUMNS and isinstance(each, dict)
    }


def _meaning(code: str, level: Any) -> str:
    """Meaning of a declared code; a word such as M stays as it is, unless its description is a known sex."""
    text = level.get("Description") if isinstance(level, dict) else level  # BIDS 1.8 also allows a table
    known = isinstance(text, str) and (text.lower() in SEXES or not code.isalpha())
    return str(text) if known else code
