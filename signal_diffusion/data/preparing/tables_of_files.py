"""Subjects from a table with one row per file: `--subject-from table`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from signal_diffusion.data.recordings.bids_folders import warn_of_unused_rows
from signal_diffusion.data.recordings.identity import stem_of
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import ID_COLUMNS, SubjectRow, read_subjects, with_attributes
from signal_diffusion.errors import UserError, listed

__all__ = ["with_people_of_table"]

_FILE_COLUMNS = ("file", "filename", "recording")


def with_people_of_table(recordings: Sequence[Recording], path: Path) -> list[Recording]:
    """Take the person and the attributes of each recording outside of BIDS folders from its row.

    The column file, filename or recording has the path within the input or the name of a file, with or without its
    format; another one has the id. Raises `UserError` if a file has no row or a row no id.
    """
    table = read_subjects(path, _FILE_COLUMNS)
    plain = [each for each in recordings if each.bids is None]
    rows = {id(each): _row(table, each) for each in plain}
    if unknown := [each.recording for each in plain if rows[id(each)] is None]:
        raise UserError(f"{path}: has no row for {len(unknown)} files: {listed(unknown)}; add one for each")
    warn_of_unused_rows(path, table, [row for row in rows.values() if row is not None])
    return [_with_person(each, rows.get(id(each)), path) for each in recordings]


def _row(table: dict[str, SubjectRow], recording: Recording) -> SubjectRow | None:
    inside = PurePath(recording.recording)
    names = (recording.recording, str(inside.with_name(stem_of(inside.name))), inside.name, stem_of(inside.name))
    return next((table[name] for name in names if name in table), None)


def _with_person(recording: Recording, row: SubjectRow | None, path: Path) -> Recording:
    if row is None:
        return recording
    subject = next((row[name] for wanted in ID_COLUMNS for name in row if name.lower() == wanted), None)
    if subject is None:
        raise UserError(f"{path}: the row of {recording.recording} has no {' or '.join(ID_COLUMNS)}; add one")
    attributes = {name: value for name, value in row.items() if name.lower() not in _FILE_COLUMNS}
    return replace(with_attributes(recording, SubjectRow(attributes, row.table, row.line)), subject=subject)
