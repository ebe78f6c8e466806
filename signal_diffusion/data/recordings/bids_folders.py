"""What BIDS folders say about their recordings: participants.tsv, .bidsignore, and files next to a recording."""

from __future__ import annotations

import fnmatch
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import SubjectRow, read_subjects, row_of, with_attributes
from signal_diffusion.errors import listed

__all__ = ["ignored_by_bids", "warn_of_unused_rows", "with_bids_paths", "with_participants"]

logger = logging.getLogger(__name__)


def with_participants(root: Path, recordings: Sequence[Recording]) -> list[Recording]:
    """Add the rows of participants.tsv; people without a row and rows without recordings are named in a warning."""
    table = root / "participants.tsv"
    if not table.exists():
        return list(recordings)
    subjects = read_subjects(table)
    rows = {subject: row_of(subjects, subject) for subject in dict.fromkeys(each.subject for each in recordings)}
    if lost := sorted(subject for subject, row in rows.items() if row is None):
        logger.warning(
            "%s: no row for %d of %d people, whose age, sex and group are unknown: %s; add the rows",
            table, len(lost), len(rows), listed(lost),
        )  # fmt: skip
    warn_of_unused_rows(table, subjects, [row for row in rows.values() if row is not None])
    return [with_attributes(each, rows[each.subject] or {}) for each in recordings]


def warn_of_unused_rows(table: Path, rows: Mapping[str, SubjectRow], used: Sequence[SubjectRow]) -> None:
    """Name the rows of a table that no recording uses."""
    known = {id(row) for row in used}
    if unused := [name for name, row in rows.items() if id(row) not in known]:
        logger.warning(
            "%s: %d of %d rows have no recording: %s; check their names and files",
            table, len(unused), len(rows), listed(unused),
        )  # fmt: skip


def ignored_by_bids(root: Path, names: Sequence[str]) -> tuple[set[str], list[str]]:
    """Recordings that .bidsignore leaves out, and "name: why" of each; they are named in a warning."""
    path = root / ".bidsignore"
    if not path.is_file():
        return set(), []
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    patterns = [line for line in lines if line and not line.startswith(("#", "!"))]
    ignored = [name for name in names if any(_matches(name, pattern) for pattern in patterns)]
    if ignored:
        logger.warning(
            "%s: leaves out %d of %d recordings: %s; remove its lines to read them",
            path, len(ignored), len(names), listed(ignored),
        )  # fmt: skip
    return set(ignored), [f"{name}: listed in .bidsignore" for name in ignored]


def _matches(name: str, pattern: str) -> bool:
    """Whether a line of .gitignore's form matches a path or one of its folders; `!` is not known."""
    parts = name.split("/")
    wholes = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    bare = pattern.strip("/").removeprefix("**/")
    anchored = "/" in pattern.rstrip("/") and not pattern.startswith("**/")
    return any(fnmatch.fnmatchcase(each, bare) for each in (wholes if anchored else [*wholes, *parts]))


def with_bids_paths(root: Path, recordings: Sequence[Recording]) -> list[Recording]:
    """Find the files of BIDS next to the recordings of a folder without dataset_description.json and participants.tsv.

    Recordings `sub-…/[ses-…/][eeg/]…_eeg.…` get their `BIDSPath`, by which events.tsv and channels.tsv are found.
    """
    inside = [Path(each.recording).parts for each in recordings]
    like_bids = [
        parts[0] == each.subject and parts[-1].startswith(f"{each.subject}_") and "_eeg." in parts[-1]
        for each, parts in zip(recordings, inside, strict=True)
    ]
    if not any(like_bids):
        return list(recordings)
    from signal_diffusion.data.recordings.bids_paths import bids_path

    paths = [bids_path(root, each.path) if like else None for each, like in zip(recordings, like_bids, strict=True)]
    if count := sum(path is not None for path in paths):
        logger.warning(
            "%s: read as BIDS (%d recordings, with their events.tsv and channels.tsv), though dataset_description.json "
            "and participants.tsv are missing; add one, or use --subject-from folder for a plain folder", root, count,
        )  # fmt: skip
    return [replace(each, bids=path) for each, path in zip(recordings, paths, strict=True)]
