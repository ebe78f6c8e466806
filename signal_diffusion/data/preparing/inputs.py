"""What `prepare` is given: recordings of one or several inputs, each person once, with what a table says of them."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from signal_diffusion.data.preparing.describing import RESERVED
from signal_diffusion.data.recordings.finding import find_recordings, source_of
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import described, other_columns, read_subjects, row_of
from signal_diffusion.errors import UserError, listed

__all__ = ["extra_columns", "recordings_of", "sources_of"]


def recordings_of(inputs: Sequence[Path], *, subjects: Path | None, folder_is_label: bool) -> list[Recording]:
    """Find the recordings of all inputs; of several, people are named dataset/subject.

    `subjects` is a table whose values win over those of a participants.tsv. Raises `UserError` where someone could be
    taken for two people, or two for one.
    """
    for one, other in itertools.permutations([root.resolve() for root in inputs], 2):
        if one == other or one in other.parents:
            raise UserError(f"{other} is given twice, itself or as a part of {one}; give each recording once")
    folders = _folders(inputs)
    twice = [name for name, count in Counter(source_of(folder)["name"] for folder in folders).items() if count > 1]
    if twice:
        raise UserError(
            f"two inputs are named {twice[0]!r}, and people of the same name in them could not be told apart; "
            "rename one of the folders"
        )
    found = [recording for root in inputs for recording in find_recordings(root, folder_is_label=folder_is_label)]
    if len(folders) > 1:  # sub-01 is someone else in every dataset
        found = [replace(each, subject=f"{each.dataset}/{each.subject}") for each in found]
    return found if subjects is None else _with_table(found, subjects)


def sources_of(inputs: Sequence[Path]) -> list[dict[str, Any]]:
    """What the card says of each input; files of one folder are one."""
    return [source_of(folder) for folder in _folders(inputs)]


def extra_columns(recordings: Sequence[Recording]) -> dict[str, str]:
    """Columns of the subject table that are kept as they are: name in the dataset → name in the table."""
    there = other_columns({name for recording in recordings for name in recording.participant})
    extras = {f"participant_{name}" if name in RESERVED else name: name for name in there}
    if len(extras) < len(there):
        raise UserError(f"the subject table has columns of one name, among {', '.join(there)}; rename one")
    return extras


def _folders(inputs: Sequence[Path]) -> list[Path]:
    return list(dict.fromkeys(root.resolve() if root.is_dir() else root.resolve().parent for root in inputs))


def _with_table(recordings: Sequence[Recording], path: Path) -> list[Recording]:
    table = read_subjects(path)
    rows = {subject: _row(table, subject) for subject in dict.fromkeys(each.subject for each in recordings)}
    if unknown := sorted(subject for subject, row in rows.items() if row is None):
        raise UserError(f"{path}: has no row for {listed(unknown)}; add them, if only with empty cells")
    people: dict[int, list[str]] = defaultdict(list)
    for subject, row in rows.items():
        people[id(row)].append(subject)
    for same in people.values():
        if len(same) > 1:
            raise UserError(f"{path}: one row stands for {listed(same)}; name them so in the table, with the dataset")
    return [described(each, rows[each.subject] or {}) for each in recordings]


def _row(table: dict[str, dict[str, str]], subject: str) -> dict[str, str] | None:
    _, _, bare = subject.rpartition("/")
    return table.get(subject) or row_of(table, bare)
