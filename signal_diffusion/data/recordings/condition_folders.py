"""Folders that may be conditions, visits or groups with people inside: `pre/p01`, `post/p01`; `T1/S1`, `T2/S1`."""

from __future__ import annotations

import logging
import re
import shlex
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.data.recordings.patterns import pattern_of
from signal_diffusion.data.recordings.repeated_names import repeated_part
from signal_diffusion.data.recordings.words import (
    CONDITION,
    NUMBERED,
    PART,
    PERSON,
    is_id,
    is_visit,
    may_be_a_person,
    names_a_person,
    says_what,
    without_dates,
)
from signal_diffusion.errors import UserError, listed

__all__ = ["TABLE", "Placed", "refuse_conditions"]

logger = logging.getLogger(__name__)

TABLE = "--subject-from table --subjects TABLE (its columns: file, id)"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """Where a file is: the folder that may be a person, and the person if it is not."""

    folder: str
    inside: str
    """What is in the folder: another one, or the name of the file."""
    labelled: str
    """The person with `--label folder`."""

    @property
    def name(self) -> str:
        """What is in the folder, without the folder's own name, dates, and words at the end that say what it is."""
        own = re.escape(self.folder)
        rest = re.sub(rf"^{own}[_\-. ]+(?=.)|(?<=.)[_\-. ]+{own}$", "", self.inside)
        name = without_dates(rest) or without_dates(self.inside) or rest
        words = re.split(r"([_\-. ]+)", name)
        while len(words) > 1 and says_what(words[-1]):
            del words[-2:]
        return name if says_what(words[0]) else "".join(words)


def refuse_conditions(base: Path, placed: Mapping[str, Placed]) -> None:
    """Raise a `UserError` if folders seem to be conditions, visits or groups, or may be as well as people.

    `placed` is file → its place. Folders that look like a person (`p01`) are people. Others are not if names that look
    like people are in several of them, by their names (`pre`, `T1`), or if more numbered names are inside than there
    are folders. They may be conditions if several names that could be those of people are in several folders; a
    single one is warned about.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for each in placed.values():
        folders[each.name].add(each.folder)
    above = set().union(*folders.values())
    if len(above) < 2:
        return
    repeated = sorted(name for name, found in folders.items() if len(found) > 1)
    with_number = any(re.search(r"\d", folder) for folder in above)
    if _are_visits(above, folders, repeated, placed) if with_number else _are_conditions(above, folders):
        raise UserError(
            f"{base}: folders {listed(sorted(above))} seem to be conditions or groups, not {len(above)} people; if so "
            f"use {_options(placed)}, or --subject-from folder if each folder is a person"
        )
    if with_number:
        return
    dated = (each.name for each in placed.values() if each.name != each.inside)
    sessions = any(re.match(r"[sS]\d", name) for name in dated)  # s001_2003_01_02
    possible = all(map(may_be_a_person, folders)) or (all(map(is_id, folders)) and not sessions)
    if not possible or 2 * len(repeated) < len(folders):
        return
    if len(repeated) == 1:
        logger.warning(
            "%s: folders %s are taken as %d people; if the person is %s, use --label folder",
            base, listed(sorted(above)), len(above), repeated[0],
        )  # fmt: skip
        return
    raise UserError(
        f"{base}: folders {listed(sorted(above))} contain the same names, {listed(repeated)}; if these names are the "
        f"people use {_options(placed)}, or --subject-from folder if each folder is a person"
    )


def _are_conditions(above: Collection[str], names: Collection[str]) -> bool:
    """Whether folders without numbers hold several people each, by their names or by the names inside."""
    if all(CONDITION.fullmatch(folder) or PART.fullmatch(folder) for folder in above):
        return True
    numbers = {match[0] for name in names if (match := NUMBERED.match(name))}
    return names_a_person(names) and len(numbers) > len(above)


def _are_visits(
    above: Collection[str], names: Collection[str], repeated: Collection[str], placed: Mapping[str, Placed]
) -> bool:
    """Whether folders with numbers in their names hold several people each: `T1`, `week4`, `shhs1`."""
    if any(map(PERSON.fullmatch, above)):
        return False
    if all(map(is_visit, above)):
        words = any(map(CONDITION.fullmatch, above)) or all(re.match("[A-Za-z]{3}", each) for each in above)
        named = all(len(name) > 1 and may_be_a_person(name) for name in names)
        return words or (bool(repeated) and (named or names_a_person(names) or all(map(is_id, names))))
    if len({re.sub(r"\d+", "", each) for each in above}) > 1 or 2 * len(repeated) < len(names):
        return False
    dated = all(each.isdigit() for each in above) and all(each.name != each.inside for each in placed.values())
    return (dated or all(map(is_id, names))) and len(names) >= len(above)


def _options(placed: Mapping[str, Placed]) -> str:
    """The options that make the names inside people."""
    part_of = repeated_part([each.name for each in placed.values()])
    person_of = {
        file: part_of.part_of.get(each.name, each.name) if part_of else each.name for file, each in placed.items()
    }
    people = set(person_of.values())
    if len(people) == 1 and all(map(says_what, re.split(r"[_\-. ]+", people.pop()))):
        return TABLE
    pattern = pattern_of(person_of, part_of.pattern if part_of else None)
    pairs = {(person, placed[file].labelled) for file, person in person_of.items()}
    alike = len(pairs) == len({person for person, _ in pairs}) == len({label for _, label in pairs})
    label = "--label folder (the folder is the label, what is inside is the person)"
    return (f"{label} or " if alike else "") + (f"--subject-pattern {shlex.quote(pattern)}" if pattern else TABLE)
