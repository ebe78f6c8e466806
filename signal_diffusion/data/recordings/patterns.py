"""Regular expressions that find in each path the person of a reading; each is tried on all paths before it is offered.

`--subject-pattern` takes them: the first group, searched in the path, is the person.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

__all__ = ["pattern_of"]

_WORD = "[^/_. -]+"


def pattern_of(person_of: Mapping[str, str | None], known: str | None = None) -> str | None:
    """Make a pattern whose first group, searched in each path, is its person; None if none is simple.

    `person_of` is path → person, or None where any match will do. `known` is tried first.
    """
    people = {path: person for path, person in person_of.items() if person is not None}
    for pattern in filter(None, (known, *_candidates(people))):
        found = {path: re.search(pattern, path) for path in person_of}
        if all(match is not None and match[1] == (person_of[path] or match[1]) for path, match in found.items()):
            return pattern
    return None


def _candidates(person_of: Mapping[str, str]) -> Iterator[str]:
    people = set(person_of.values())
    following = {_following(path, person) for path, person in person_of.items()}
    after = next(iter(following)) if len(following) == 1 else "."
    for body in (_body(people, lambda _: r"\d+"), _body(people, lambda digits: rf"\d{{{len(digits[0])}}}")):
        if body:
            yield from ([f"({body}){after}"] if after in ("_", "-") or after.isalpha() else [])
            yield f"({body})"
    fields = {len(re.split(r"[_\-. ]+", person)) for person in people}
    more = f"(?:[_. -]+{_WORD}){{{count}}}" if len(fields) == 1 and (count := fields.pop() - 1) else ""
    for depth in range(1, 5):
        above = "^" + "[^/]+/" * depth
        yield from (f"{above}([^/.]+)", rf"{above}([A-Za-z]+[ _-]?\d+)", f"{above}({_WORD}{more})")
    yield f"({_WORD}{more})[^/]*$"
    for skipped in (1, 2, 3):
        yield f"(?:^|/)(?:{_WORD}[_. -]+){{{skipped}}}({_WORD}{more})[^/]*$"
    yield rf"({_WORD}{more})\.[^/.]+$"


def _following(path: str, person: str) -> str:
    """The letter after the person, in the last part of the path that has a word that starts like it."""
    for part in reversed(path.split("/")):
        if found := re.search(rf"(?<![^_. -]){re.escape(person)}(.?)", part):
            return found[1]
    return "."


def _body(people: Collection[str], digits: Callable[[re.Match[str]], str]) -> str | None:
    """The people with their numbers replaced; None if a name has no number, or the names have too many forms."""
    plain = [re.sub(r"\\([- ])", r"\1", re.escape(person)) for person in people]
    bodies = sorted({re.sub(r"\d+", digits, person) for person in plain})
    return "|".join(bodies) if len(bodies) <= 4 and all(re.search(r"\d", person) for person in people) else None
