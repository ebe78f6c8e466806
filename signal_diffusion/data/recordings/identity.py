"""Who is recorded in each file of a plain folder: from names, folders, or as the user says.

A person is not guessed where the names leave doubt: such a folder is refused, with the option that settles it.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from signal_diffusion.data.recordings.condition_folders import TABLE, Placed, refuse_conditions
from signal_diffusion.data.recordings.patterns import pattern_of
from signal_diffusion.data.recordings.places import Person, entities_of, stem_of, wrappers
from signal_diffusion.data.recordings.repeated_names import Repeated, other_reading, repeated_part
from signal_diffusion.errors import UserError, listed

__all__ = ["SubjectRule", "entities_of", "stem_of", "subjects_of"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SubjectRule:
    """The options that say who is recorded in a file of a plain folder."""

    pattern: str | None = None
    """Regular expression, searched in the path within the input; its first group is the subject."""
    source: str | None = None
    """`folder`, `name` or `table`; None = names with `sub-…`, then folders, then names."""
    one_person_per_file: bool = False
    """Names of files are people, even if one part of them repeats."""

    def __post_init__(self) -> None:
        if self.source not in (None, "folder", "name", "table"):
            raise UserError(f"subject_from: {self.source!r}; expected folder, name or table")
        if self.pattern is not None:
            if self.source or self.one_person_per_file:
                raise UserError("subject_pattern: cannot be combined with --subject-from or --one-person-per-file")
            try:
                groups = re.compile(self.pattern).groups
            except re.error as error:
                raise UserError(f"subject_pattern: {self.pattern!r} is not a regular expression ({error})") from error
            if not groups:
                raise UserError(
                    rf"subject_pattern: {self.pattern!r} has no group for the subject; write such as '(S\d+)R'"
                )


def subjects_of(base: Path, files: Sequence[PurePath], rule: SubjectRule, *, folder_is_label: bool) -> list[str]:
    """Name the person of each file, given by its path within `base`.

    `sub-…` in the file's name, else a folder `sub-…`, else the first folder that is no session, date or single folder
    around the data, else the file's name without ses-, task-, acq- and run-. With `folder_is_label`, the first folder
    is a label. Raises `UserError` if folder and name contradict each other, if folders seem to be conditions or
    visits, or if several names seem to be of one person, unless `rule` settles it.
    """
    if rule.pattern is not None:
        return _by_pattern(base, files, rule.pattern)
    if rule.source == "table":  # the caller knows the table
        return [stem_of(file.name) for file in files]
    above = 1 if folder_is_label else wrappers(files)
    people = [Person(file, file.parts[above:-1]) for file in files]
    if rule.source is None:
        _refuse_contradictions(base, people)
        if not rule.one_person_per_file:
            refuse_conditions(base, _placed(people))
    if rule.source == "folder" and (lost := [str(each.file) for each in people if each.folder is None]):
        raise UserError(
            f"{base}: --subject-from folder, but {len(lost)} files are in no folder of a person: {listed(lost)}; "
            "move them, or use --subject-pattern"
        )
    by_name = [each for each in people if each.named is None and (each.folder is None or rule.source == "name")]
    if rule.source != "folder" and not rule.one_person_per_file:
        _refuse_repeated(base, people, by_name)
    subjects = [each.subject(rule.source) for each in people]
    if rule == SubjectRule():
        _refuse_case(base, subjects)
        _warn(base, people, subjects, 0 if folder_is_label else above)
    return subjects


def _by_pattern(base: Path, files: Sequence[PurePath], pattern: str) -> list[str]:
    found = [re.search(pattern, file.as_posix()) for file in files]
    if lost := [file.as_posix() for file, match in zip(files, found, strict=True) if match is None or not match[1]]:
        raise UserError(
            f"{base}: --subject-pattern {shlex.quote(pattern)} finds nobody in {len(lost)} of {len(files)} files: "
            f"{listed(lost)}; expected a match in each"
        )
    return [match[1] for match in found if match is not None]


def _refuse_contradictions(base: Path, people: Sequence[Person]) -> None:
    wrong = [each for each in people if (other := _named_like_folder(each)) and other != each.folder]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"{base}: {first.file}: the folder says {first.folder}, but the name says {_named_like_folder(first)}"
            + (f" ({len(wrong)} such files)" if len(wrong) > 1 else "")
            + "; the name seems right: use --subject-from name, or --subject-from folder if the folder is"
        )


def _placed(people: Sequence[Person]) -> dict[str, Placed]:
    """File → its place, of files in folders of people, unless named `sub-…`."""
    return {
        each.file.as_posix(): Placed(
            folder=each.folder,
            inside=each.inside,
            labelled=Person(each.file, each.file.parts[1:-1]).subject(),
        )
        for each in people
        if each.named is None and each.folder is not None and not each.folder.startswith("sub-")
    }


def _refuse_case(base: Path, subjects: Sequence[str]) -> None:
    spelled: dict[str, str] = {}
    for subject in subjects:
        other = spelled.setdefault(subject.casefold(), subject)
        if other != subject:
            raise UserError(
                f"{base}: {other} and {subject} differ only in upper and lower case, so they seem to be one person; "
                f"rename them, use --subject-from folder or --subject-pattern, or {TABLE}"
            )


def _named_like_folder(person: Person) -> str | None:
    """The person in the name of a file, if the folder has another one of the same form: S002R01 in the folder S001."""
    folder = person.folder
    if folder is None:
        return None
    if person.named:
        return person.named if folder.startswith("sub-") else None
    if not re.search(r"[A-Za-z].*\d", folder):
        return None
    form = re.sub(r"\d+", lambda _: r"(\d+)", re.escape(folder))
    own, other = re.match(form, folder), re.match(form, person.stem)
    if own is None or other is None or list(map(int, own.groups())) == list(map(int, other.groups())):
        return None
    return other[0]


def _refuse_repeated(base: Path, people: Sequence[Person], by_name: Sequence[Person]) -> None:
    names = {each.file.as_posix(): each.rest for each in by_name}
    if nameless := [file for file, name in names.items() if not name and len(people) > 1]:
        raise UserError(
            f"{base}: {len(nameless)} files name no person: {listed(nameless)}; put the files of each person into one "
            f"folder, write sub-… into the names, or use {TABLE}"
        )
    repeated = repeated_part(names.values())
    if repeated is None:
        return
    everywhere = {each.file.as_posix(): names.get(each.file.as_posix(), "") for each in people}
    other = repeated.other or other_reading(repeated)
    readings = [each for each in (repeated, other) if each is not None]
    raise UserError(
        f"{base}: {', or '.join(_reading(each, names, everywhere) for each in readings)}, "
        "or --one-person-per-file if each name is another person"
    )


def _reading(repeated: Repeated, names: Mapping[str, str], everywhere: Mapping[str, str]) -> str:
    """Describe one reading of names in which a part repeats, with the option that takes it."""
    files: dict[str, list[str]] = defaultdict(list)
    for file, name in names.items():
        files[repeated.part_of.get(name, name)].append(file)
    part, same = next((part, same) for part, same in files.items() if len({names[file] for file in same}) > 1)
    pattern = pattern_of({path: repeated.part_of.get(name) for path, name in everywhere.items()}, repeated.pattern)
    return (
        f"{same[0]} and {same[1]} seem to be one person, {part} ({len(files)} people in {len(names)} files); "
        f"if so use {f'--subject-pattern {shlex.quote(pattern)}' if pattern else TABLE}"
    )


def _warn(base: Path, people: Sequence[Person], subjects: Sequence[str], above: int) -> None:
    without_folder = [each for each in people if each.named is None and len(each.file.parts) == above + 1]
    loose = sorted({each.rest or each.stem for each in without_folder})
    if len(loose) > 1:
        logger.warning(
            "%s: treating each of %d files as a separate subject, such as %s; put the files of one subject into one "
            "folder", base, len(loose), loose[0],
        )  # fmt: skip
    folders = defaultdict(set)
    for each, subject in zip(people, subjects, strict=True):
        if each.named is not None and each.folder is not None:
            folders[subject].add(each.folder)
    if several := sorted(subject for subject, found in folders.items() if len(found) > 1):
        logger.warning(
            "%s: %d people are in several folders, such as %s in %s; give the folders as separate inputs if these "
            "are different people", base, len(several), several[0], listed(sorted(folders[several[0]])),
        )  # fmt: skip
    named = [each.folder for each in people if each.named is None and each.folder is not None]
    repeated = repeated_part([folder for folder in named if not folder.startswith("sub-")])
    if repeated is not None:
        parts = list(repeated.part_of.values())
        same = [folder for folder, part in repeated.part_of.items() if parts.count(part) > 1]
        logger.warning(
            "%s: folders %s and %s are taken as two people; if they are one, use --subject-pattern",
            base, same[0], same[1],
        )  # fmt: skip
