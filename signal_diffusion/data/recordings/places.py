"""What the names of a file and of its folders say about the person who is recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from signal_diffusion.data.recordings.words import (
    CONDITION,
    NO_PERSON,
    PART,
    PERSON,
    is_id,
    may_be_a_person,
    names_a_person,
    says_what,
    without_dates,
)

__all__ = ["Person", "entities_of", "stem_of", "wrappers"]

_ENTITY = re.compile(r"(?<![^_])(sub|ses|task|acq|run)-([A-Za-z0-9]+)")  # of BIDS names: sub-01_task-rest_eeg.edf

_PERSON_IN_ONE_FOLDER = re.compile(rf"(?i:{PERSON.pattern}|[a-z]+\d{{3,}})")  # not sz1, sz2 in anna


def entities_of(path: PurePath) -> dict[str, str]:
    """Entities of a BIDS-like path (sub, ses, task, acq, run): those of the name before those of folders."""
    return dict(pair for part in path.parts for pair in _ENTITY.findall(part))


def stem_of(name: str) -> str:
    """Name of a file without its format."""
    return re.sub(r"(\.fif\.gz|\.[^.]+)$", "", name, flags=re.IGNORECASE)


class Person:
    """What name and folders of a file say about the person."""

    def __init__(self, file: PurePath, folders: Sequence[str]) -> None:
        self.file = file
        self.named = _sub(file.name)
        """`sub-…` in the name."""
        self.stem = stem_of(file.name)
        self.folder = next(filter(None, map(_sub, folders)), None) or _folder_of(self.stem, folders)
        below = folders[folders.index(self.folder) + 1 :] if self.folder in folders else ()
        self.inside = next((folder for folder in below if not _says_what(folder)), self.stem)
        """What is below the folder: another one, or the name."""
        rest = _ENTITY.sub("", self.stem)
        if rest != self.stem:
            rest = re.sub(r"(^|_)eeg$", "", rest)
        rest = re.sub("_+", "_", rest).strip("_") if rest != self.stem else rest
        self.rest = "" if self.folder is None and _is_nobody(rest, folders) else rest
        """The name without ses-, task-, acq-, run-; empty if nothing is left that may be a person."""

    def subject(self, source: str | None = None) -> str:
        """The person, by `source`: `folder`, `name`, or None for both."""
        if source == "folder":
            assert self.folder is not None
            return self.folder
        by_folder = self.folder if source is None else None
        return self.named or by_folder or self.rest or self.stem


def _folder_of(stem: str, folders: Sequence[str]) -> str | None:
    """The first folder that is no session; below a part of a data set, the one whose name the file repeats."""
    possible = [folder for folder in folders if not NO_PERSON.fullmatch(folder)]
    if possible and (possible[0].isdigit() or PART.fullmatch(possible[0]) or CONDITION.fullmatch(possible[0])):
        below = [folder for folder in possible[1:] if not _says_what(folder)]
        return next((folder for folder in below if re.match(re.escape(folder) + r"[\W_]", stem)), possible[0])
    return possible[0] if possible else None


def _is_nobody(name: str, folders: Sequence[str]) -> bool:
    """Whether a name consists of a date, or lies in a folder of a date, and says at most what was recorded."""
    below_date = any(without_dates(folder) == "" for folder in folders)
    bare = without_dates(name)
    words = re.split(r"[_\-. ]+", bare) if bare else []
    return (below_date or bare != name) and all(
        says_what(word) or (below_date and word.isdigit() and not is_id(word)) for word in words
    )


def _says_what(folder: str) -> bool:
    """Whether a folder says when or what was recorded."""
    return NO_PERSON.fullmatch(folder) is not None or PART.fullmatch(folder) is not None or says_what(folder)


def wrappers(files: Sequence[PurePath]) -> int:
    """The number of single folders on top, such as `data`, that hold all files and are no person."""
    count = 0
    while len(tops := {file.parts[count] for file in files if len(file.parts) > count + 1}) == 1 and len(files) > 1:
        (top,) = tops
        if _sub(top) or NO_PERSON.fullmatch(top) or any(len(file.parts) == count + 1 for file in files):
            break
        if PERSON.fullmatch(top) or (re.search(r"\d", top) and any(file.name.startswith(top) for file in files)):
            break
        below = {file.parts[count + 1] for file in files}
        folders = all(len(file.parts) > count + 2 for file in files)
        stems = {re.sub(rf"^{re.escape(top)}[_\-. ]*", "", stem_of(name)) for name in below}
        people = names_a_person(stems) and all(map(_PERSON_IN_ONE_FOLDER.match, stems))
        several = len(below) > 1 and (people or (folders and all(map(may_be_a_person, below))))
        if not PART.fullmatch(top) and not several:
            break
        count += 1
    return count


def _sub(part: str) -> str | None:
    """`sub-…` in a name."""
    found = dict(_ENTITY.findall(part)).get("sub")
    return found and f"sub-{found}"
