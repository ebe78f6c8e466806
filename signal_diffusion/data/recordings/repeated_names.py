"""Names of files in which one part repeats while a later one counts: `S001R01`, `S001R02`; `anna_1`, `anna_2`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Repeated", "other_reading", "pattern_for", "repeated_part"]

_SLEEP_EDF = re.compile(r"(S[CT]\d{3})\d[A-Z]\w")  # subject (3 digits with the study), night, equipment
_SEPARATED = re.compile(r"[_\-. ]+")
_COUNTED = re.compile(
    r"[_\-. ]+(ses|sess|session|run|task|trial|block|visit|day|night|part|rec|recording)[_\-. ]?\d+", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """The part of each name that seems to be the person."""

    part_of: dict[str, str]
    pattern: str | None = None
    """A regular expression of its first group, if it is known; else `pattern_for` makes one."""


def repeated_part(names: Collection[str]) -> Repeated | None:
    """Find the part that several names share, followed by one that differs; None if each name is a person.

    A part that all names share, such as `EEG_`, says nothing, unless it contains a number, is a name itself, or what
    follows is a session or run by its name. What follows a part has to count, or to follow another part as well
    (`anna_rest`, `anna_work`, `bert_rest`). Of several such parts, the shortest that distinguishes names.
    """
    doubtful = None
    for candidate in _candidates(sorted(set(names))):
        counts = Counter(candidate.part_of.values())
        shared = {name: part for name, part in candidate.part_of.items() if counts[part] > 1}
        if not shared:
            continue
        if candidate.pattern is not None:
            return candidate
        rests = Counter(name[len(part) :] for name, part in candidate.part_of.items())
        numbered = any(re.search(r"\d", part) or part in candidate.part_of for part in shared.values())
        if len(counts) > 1:
            counting = all(re.search(r"\d", name[len(part) :]) for name, part in shared.items())
            if numbered or counting or max(rests.values()) > 1:
                return candidate
        elif doubtful is None and (numbered or all(_COUNTED.match(rest) for rest in rests)):
            doubtful = candidate
    return doubtful


def other_reading(repeated: Repeated) -> Repeated | None:
    """Read the word after the part as the person (`closed_anna`, `open_anna`); None if that is unlikely.

    The word has to follow several parts, and to be neither a number nor a session or run by its name.
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
    return Repeated(part_of=words, pattern=r"([^/_. -]+)\.[^/.]+$")


def pattern_for(repeated: Repeated, paths: Mapping[str, str]) -> str | None:
    """Make a regular expression whose first group, searched in each path, is its person; None if none is simple.

    `paths` is path → name.
    """
    parts = set(repeated.part_of.values())
    bodies = {re.sub(r"\d+", lambda _: r"\d+", re.escape(part)) for part in parts}
    following = {name[len(part) : len(part) + 1] for name, part in repeated.part_of.items()}
    candidates = [repeated.pattern] if repeated.pattern else []
    if len(bodies) == 1:
        body = bodies.pop()
        candidates += [f"({body}){re.escape(next(iter(following)))}"] if len(following) == 1 else []
        candidates.append(f"({body})")
    fields = {len(_SEPARATED.split(part)) for part in parts}
    if len(fields) == 1:
        more = f"(?:[_. -]+[^/_. -]+){{{count}}}" if (count := fields.pop() - 1) else ""
        candidates.append(f"([^/_. -]+{more})[^/]*$")
    for pattern in candidates:
        found = {path: re.search(pattern, path) for path in paths}
        if all(
            match is not None and match[1] == repeated.part_of.get(paths[path], match[1])
            for path, match in found.items()
        ):
            return pattern
    return None


def _candidates(names: list[str]) -> Iterator[Repeated]:
    if sleep := {name: match[1] for name in names if (match := _SLEEP_EDF.match(name))}:
        yield Repeated(part_of=sleep, pattern=_SLEEP_EDF.pattern[: _SLEEP_EDF.pattern.index(")") + 1])
    yield from _separated(names)
    yield from _same_form(names)


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
