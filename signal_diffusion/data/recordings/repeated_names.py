"""Names of files in which one part repeats while a later one counts: `S001R01`, `S001R02`; `anna_1`, `anna_2`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from signal_diffusion.data.recordings.words import CONDITION, DATE, GROUP, PERSON, SESSION, VISIT, is_visit, says_what

__all__ = ["Repeated", "other_reading", "repeated_part"]

_SLEEP_EDF = re.compile(r"(S[CT]\d{3})\d[A-Z]\w")  # subject (3 digits with the study), night, equipment
_SEPARATED = re.compile(r"[_\-. ]+")
_COUNTED = re.compile(
    r"[_\-. ]+(ses|sess|session|run|task|trial|block|visit|day|night|part|rec|recording)[_\-. ]?\d+", re.IGNORECASE
)
_ID = re.compile(rf"(?:{PERSON.pattern}|(?:{GROUP.pattern})[_\-. ]?\d+|[^\W\d_]+\d+)(?![^\W_])", re.IGNORECASE)
_FIRST = re.compile(rf"({SESSION}|{CONDITION.pattern}|{VISIT.pattern}|[^\W_]+)[_\-. ]+(?=.)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """The part of each name that seems to be the person."""

    part_of: dict[str, str]
    pattern: str | None = None
    """A regular expression whose first group is the part, if one is known."""
    other: Repeated | None = None
    """Another reading that is possible."""


def repeated_part(names: Collection[str]) -> Repeated | None:
    """Find the part that several names share, followed by one that differs; None if each name is a person.

    A part that all names share, such as `EEG_`, says nothing, unless it contains a number, is a name itself, or what
    follows is a session or run by its name. What follows a part has to count, or to follow another part as well
    (`anna_rest`, `anna_work`, `bert_rest`). Of several such parts, the shortest that distinguishes names and is no
    group (`CTL_01`, `PAT_02`). Dates and conditions before people are no part.
    """
    bare = _without_what_comes_first(set(names))
    found = _repeated(sorted(set(bare.values())))
    if found is None and len(set(bare.values())) < len(bare):
        found = Repeated(part_of={})
    if found is None or all(name == rest for name, rest in bare.items()):
        return found
    first = _repeated(sorted(names))
    if first and any(re.match(DATE, name) or _is_no_person(first.part_of.get(name, name)) for name in names):
        first = None
    return replace(found, part_of={name: found.part_of.get(rest, rest) for name, rest in bare.items()}, other=first)


def _without_what_comes_first(names: Collection[str]) -> dict[str, str]:
    """Name → the name without dates before it, and without conditions and visits before people (`rest_p01`)."""
    bare = {name: re.sub(rf"^(?:{DATE}[_\-. ]+)+", "", name) for name in names}
    rests = {name: _without_visits(rest) for name, rest in bare.items()}
    first = {rest[: len(rest) - len(rests[name])].strip("_-. ") for name, rest in bare.items()}
    if len(first) < 2 or "" in first:
        return bare
    starts = [_SEPARATED.split(rest)[0] for rest in rests.values()]
    padded = any(re.match(r"[A-Za-z]{1,2}0\d", each) for each in first)  # rather people: V01_oddball1
    if all((PERSON if padded else _ID).match(rest) and not is_visit(rest) for rest in rests.values()):
        return rests
    if padded:
        return bare
    short = any(re.match(r"[A-Za-z]{1,2}\d", each) for each in first)
    if all(start.isdigit() for start in starts):
        return bare if short else rests
    counted = any(re.search(r"\d", each) for each in first)
    return rests if counted and not any(map(is_visit, starts)) and len(set(rests.values())) < len(rests) else bare


def _is_no_person(part: str) -> bool:
    """Whether a part is a visit or condition, and not a letter and a number (`T1`), which may be a person."""
    return is_visit(part) and re.fullmatch(r"[A-Za-z]{1,2}\d+", part) is None


def _without_visits(name: str) -> str:
    """The name without words before it that say when or what was recorded; never empty."""
    while found := _FIRST.match(name):
        if PERSON.match(name) or not is_visit(found[1]):
            break
        name = name[found.end() :]
    return name


def _repeated(names: list[str]) -> Repeated | None:
    doubtful = None
    for candidate in _candidates(names):
        counts = Counter(candidate.part_of.values())
        shared = {name: part for name, part in candidate.part_of.items() if counts[part] > 1}
        if not shared:
            continue
        if candidate.pattern is not None:
            return candidate
        groups = _groups(candidate)
        if groups:
            doubtful = doubtful or (candidate if groups == "perhaps" else None)
            continue
        rests = Counter(name[len(part) :] for name, part in candidate.part_of.items())
        numbered = any(_has_number(part) or part in candidate.part_of for part in shared.values())
        if len(counts) > 1:
            counting = all(re.search(r"\d", name[len(part) :]) for name, part in shared.items())
            if numbered or counting or max(rests.values()) > 1:
                return replace(candidate, other=doubtful)
        elif doubtful is None and (numbered or all(_COUNTED.match(rest) for rest in rests)):
            doubtful = candidate
    return doubtful


def other_reading(repeated: Repeated) -> Repeated | None:
    """Read the word after the part as the person (`closed_anna`, `open_anna`); None if that is unlikely.

    The word has to follow several parts, and to be neither a number nor a session, run or condition by its name.
    """
    parts = set(repeated.part_of.values())
    rests = {name: name[len(part) :] for name, part in repeated.part_of.items()}
    words = {name: rest.strip("_-. ") for name, rest in rests.items()}
    if repeated.pattern or len(parts) == 1 or any(re.search(r"\d", part) for part in parts):
        return None
    if any(_SEPARATED.search(word) or not re.search(r"[^\W\d]", word) for word in words.values()):
        return None
    if max(Counter(words.values()).values()) == 1 or all(_COUNTED.match(rest) for rest in rests.values()):
        return None
    if all(map(says_what, words.values())):
        return None
    return Repeated(part_of=words, pattern=r"([^/_. -]+)\.[^/.]+$")


def _has_number(part: str) -> bool:
    """Whether a part has a number other than a year."""
    return re.search(r"\d", re.sub(r"(?<![^_\-. ])(19|20)\d\d(?![^_\-. ])", "", part)) is not None


def _groups(candidate: Repeated) -> str:
    """Whether several parts are groups, before numbers or people: "certainly", "perhaps" (`H S1`, `MDD S1`) or ""."""
    rests = {part: name[len(part) :].lstrip("_-. ") for name, part in candidate.part_of.items()}
    if len(rests) == 1 or not all(rests.values()):
        return ""
    if all(GROUP.fullmatch(part) and rest[0].isdigit() for part, rest in rests.items()):
        return "certainly"
    starts = all(re.match(rf"(?i:{PERSON.pattern})(?![^\W_])", rest) for rest in rests.values())
    short = all(re.fullmatch("[A-Z]{1,4}", part) or GROUP.fullmatch(part) for part in rests)
    return "perhaps" if starts and short else ""


def _candidates(names: list[str]) -> Iterator[Repeated]:
    if sleep := {name: match[1] for name in names if (match := _SLEEP_EDF.match(name))}:
        yield Repeated(part_of=sleep, pattern=_SLEEP_EDF.pattern[: _SLEEP_EDF.pattern.index(")") + 1])
    yield from _separated(names)
    yield from _same_form(names)
    yield from _grid(names)


def _separated(names: list[str]) -> Iterator[Repeated]:
    """Parts that end before a separator: `anna_1`."""
    ends = {name: [match.start() for match in _SEPARATED.finditer(name)] for name in names}
    for number in range(max(map(len, ends.values()), default=0)):
        yield Repeated(
            part_of={name: name[: ends[name][number]] if number < len(ends[name]) else name for name in names}
        )


def _same_form(names: list[str]) -> Iterator[Repeated]:
    """Parts that end in a number before a letter, in names that differ only in their numbers: `S001R01`, `A01T`."""
    forms: dict[str, list[str]] = {}
    for name in names:
        form = re.sub(r"\d+", "#", re.sub(r"(?<=\d)[A-Za-z]$", "@", name))
        forms.setdefault(form, []).append(name)
    for alike in forms.values():
        ends = {name: [match.end() for match in re.finditer(r"\d+(?=[A-Za-z])", name)] for name in alike}
        for number in range(min(map(len, ends.values()))):
            yield Repeated(part_of={name: name[: ends[name][number]] for name in alike})


def _grid(names: list[str]) -> Iterator[Repeated]:
    """People and sessions of two digits each, where each person has the same sessions, from 01: `B0101T`, `B0102E`."""
    found = [re.fullmatch(r"([A-Za-z]+\d\d)(\d\d)([A-Za-z])", name) for name in names]
    sessions: dict[str, list[int]] = {}
    for match in found:
        if match is None:
            return
        sessions.setdefault(match[1], []).append(int(match[2]))
    if sessions and all(sorted(each) == list(range(1, len(each) + 1)) for each in sessions.values()):
        yield Repeated(part_of={match[0]: match[1] for match in found if match})
