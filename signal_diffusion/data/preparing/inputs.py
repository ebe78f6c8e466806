"""Inputs of `prepare`: recordings from one or more inputs, with unique subjects and their table rows."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from signal_diffusion.data.preparing.describing import RESERVED
from signal_diffusion.data.preparing.tables_of_files import with_people_of_table
from signal_diffusion.data.recordings.bids_folders import warn_of_unused_rows
from signal_diffusion.data.recordings.finding import DEFAULT_RULE, Found, find, source_of
from signal_diffusion.data.recordings.identity import SubjectRule
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import SubjectRow, other_columns, read_subjects, row_of, with_attributes
from signal_diffusion.errors import UserError, listed

__all__ = ["collect_recordings", "describe_sources", "extra_columns"]


def collect_recordings(
    inputs: Sequence[Path], *, subjects: Path | None, folder_is_label: bool, rule: SubjectRule = DEFAULT_RULE
) -> Found:
    """Find the recordings of all inputs; with several inputs, subjects are named dataset/subject.

    `subjects` is a table that overrides participants.tsv. Raises `UserError` if one subject could be mistaken for two,
    or two for one.
    """
    for one, other in itertools.permutations([root.resolve() for root in inputs], 2):
        if one == other or one in other.parents:
            raise UserError(f"{other} is given twice, directly or as part of {one}; give each recording once")
    folders = _folders(inputs)
    twice = [name for name, count in Counter(source_of(folder)["name"] for folder in folders).items() if count > 1]
    if twice:
        raise UserError(
            f"two inputs are named {twice[0]!r}, so subjects with the same name could not be distinguished; "
            "rename one of the folders"
        )
    if rule.source == "table" and subjects is None:
        raise UserError("subject_from: table, but there is no table; add --subjects TABLE")
    found = _find_all(inputs, rule, folder_is_label)
    recordings = [recording for each in found for recording in each.recordings]
    several = len(folders) > 1
    left_out = [
        f"{folder.name}/{name}" if several else name
        for folder, each in zip(folders, found, strict=True)
        for name in each.left_out
    ]
    if rule != DEFAULT_RULE and all(each.bids is not None for each in recordings):
        raise UserError("subject_from, subject_pattern, one_person_per_file: no effect in BIDS folders; leave them out")
    if rule.source == "table" and subjects is not None:
        return Found(recordings=with_people_of_table(recordings, subjects), left_out=left_out)
    if several:  # sub-01 is a different subject in each dataset
        recordings = [replace(each, subject=f"{each.dataset}/{each.subject}") for each in recordings]
    return Found(recordings=recordings if subjects is None else _with_table(recordings, subjects), left_out=left_out)


def describe_sources(inputs: Sequence[Path]) -> list[dict[str, Any]]:
    """Describe each input for the card; files of one folder count as one input."""
    return [source_of(folder) for folder in _folders(inputs)]


def extra_columns(recordings: Sequence[Recording]) -> dict[str, str]:
    """Columns of the subject table to copy to the dataset: name in the dataset → name in the table."""
    names = other_columns({name for recording in recordings for name in recording.participant})
    extras = {f"participant_{name}" if name in RESERVED else name: name for name in names}
    if len(extras) < len(names):
        raise UserError(f"the subject table has two columns with the same name, among {', '.join(names)}; rename one")
    return extras


def _folders(inputs: Sequence[Path]) -> list[Path]:
    return list(dict.fromkeys(_folder(root) for root in inputs))


def _folder(root: Path) -> Path:
    return root.resolve() if root.is_dir() else root.parent.resolve()


def _find_all(inputs: Sequence[Path], rule: SubjectRule, folder_is_label: bool) -> list[Found]:
    """Find the recordings of each of `_folders`; files of one folder together, because they may be of one person."""
    grouped: dict[Path, list[Path]] = defaultdict(list)
    for root in inputs:
        grouped[_folder(root)].append(root)
    return [
        find(roots[0], rule=rule, folder_is_label=folder_is_label)
        if roots[0].is_dir() or not roots[0].exists()
        else find(
            roots[0].parent,
            files=[roots[0].parent / root.name for root in roots],
            rule=rule,
            folder_is_label=folder_is_label,
        )
        for roots in grouped.values()
    ]


def _with_table(recordings: Sequence[Recording], path: Path) -> list[Recording]:
    table = read_subjects(path)
    rows = {subject: _row(table, subject) for subject in dict.fromkeys(each.subject for each in recordings)}
    if unknown := sorted(subject for subject, row in rows.items() if row is None):
        raise UserError(f"{path}: has no row for {listed(unknown)}; add one for each (cells may be empty)")
    subjects_of: dict[int, list[str]] = defaultdict(list)
    for subject, row in rows.items():
        subjects_of[id(row)].append(subject)
    for same in subjects_of.values():
        if len(same) > 1:
            raise UserError(
                f"{path}: one row matches several subjects, {listed(same)}; use these names as ids in the table"
            )
    warn_of_unused_rows(path, table, [row for row in rows.values() if row is not None])
    return [with_attributes(each, rows[each.subject] or {}) for each in recordings]


def _row(table: dict[str, SubjectRow], subject: str) -> SubjectRow | None:
    _, _, bare = subject.rpartition("/")
    return table.get(subject) or row_of(table, bare)
