"""A migrated experiment file as text: today's tables in today's order, and the comments of an older file in TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.legacy.plain import shown
from signal_diffusion.config.legacy.translation import Translation

__all__ = ["Comments", "comments_in", "rewritten"]


@dataclass(kw_only=True)
class Comments:
    """The comments of a TOML file by where they stand; each line with its #."""

    head: list[str] = field(default_factory=list)
    """Before everything else, parted from it by an empty line."""
    above: dict[str, list[str]] = field(default_factory=dict)
    """Above a key, or above the header of its table where it is the first, by dotted key."""
    beside: dict[str, str] = field(default_factory=dict)
    """On a key's own line."""
    tail: list[str] = field(default_factory=list)
    """After the last key."""

    def add(self, key: str, above: Iterable[str], beside: str) -> None:
        """Comments of a key, which may have some already."""
        self.above.setdefault(key, []).extend(above)
        self.beside[key] = "  ".join(filter(None, (self.beside.get(key), beside)))

    def renamed(self, names: Mapping[str, str]) -> Comments:
        """The comments of keys by other names, of which several may become one."""
        comments = Comments(head=self.head, tail=self.tail)
        for key, above in self.above.items():
            comments.add(names.get(key, key), above, self.beside[key])
        return comments


def comments_in(text: str) -> Comments:
    """The comments of a text that is TOML."""
    comments, table, entry = Comments(), "", ""
    waiting: list[str] = []
    for line in text.split("\n"):
        entry = f"{entry}\n{line}" if entry else line.strip()
        if not entry:
            if waiting and not (table or comments.above or comments.beside or comments.head):
                comments.head, waiting = waiting, []
        elif entry.startswith("#"):
            waiting.append(entry)
        elif (parsed := _parsed(entry)) is None:
            continue  # a value that goes on in the next line
        else:
            *within, comment = _comments_of(entry, parsed)
            if entry.startswith("["):
                table = _path(parsed)
                waiting += [comment] if comment else []
            else:
                key = ".".join(filter(None, (table, _path(parsed))))
                comments.add(key, [*waiting, *filter(None, within)], comment)
                waiting = []
        entry = ""
    comments.tail = waiting
    return comments


def rewritten(translation: Translation, known: Iterable[str], comments: Comments, command: str) -> str:
    """A file of today's layout, that reads back as the older one does.

    Parameters
    ----------
    translation
        Of the older file.
    known
        Today's keys, in the order in which they are to stand.
    comments
        Of the older file, by its own keys.
    command
        What the first line says that it was made by.
    """
    places = {old: key for key, old in translation.origins.items()}
    places |= {move.old: next(iter(move.new)) for move in translation.moved if move.new}
    written = dict(dotted(translation.tables))
    moved = comments.renamed(places)
    rank = {key: number for number, key in enumerate(known)}
    lines, table = [*comments.head, f"# Made by {command}"], ""
    for key in sorted(written, key=lambda key: _rank(key, rank)):
        name, _, last = key.rpartition(".")
        if name != table:
            lines += ["", f"[{name}]"]
            table = name
        comment = f"  {moved.beside[key]}" if moved.beside.get(key) else ""
        lines += [*moved.above.get(key, ()), f"{_key(last)} = {_value(written[key])}{comment}"]
    lines += _left_behind(translation, comments, [old for old in comments.above if places.get(old, old) not in written])
    return "\n".join([*lines, *comments.tail]) + "\n"


def _left_behind(translation: Translation, comments: Comments, homeless: list[str]) -> list[str]:
    """What is not in the new file, as comments at its end, with the comments that it had."""
    reasons = [(left.old, left.value, left.reason) for left in translation.left]
    reasons += [(each.key, each.value, "derived from the dataset") for each in translation.expected]
    told = {old for old, _, _ in reasons}
    lines = []
    for old, value, reason in reasons:
        beside = f"  {comments.beside[old]}" if old in homeless and comments.beside[old] else ""
        lines += [*(comments.above[old] if old in homeless else ())]
        lines.append(f"#   {old} = {shown(value)}: {reason}{beside}")
    for old in homeless:
        if old not in told:  # merged with another key
            lines += [*comments.above[old], *filter(None, [comments.beside[old]])]
    return ["", "# Of the older file, but not in this one:", *lines] if lines else []


def _parsed(entry: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(entry)
    except tomllib.TOMLDecodeError:
        return None


def _comments_of(entry: str, parsed: Mapping[str, Any]) -> list[str]:
    """The comment of each line: what follows the first # without which the same is said, as it stands in no string."""
    lines = entry.split("\n")
    found = [""] * len(lines)
    for number, line in enumerate(lines):
        for index in (index for index, letter in enumerate(line) if letter == "#"):
            if _parsed("\n".join([*lines[:number], line[:index], *lines[number + 1 :]])) == parsed:
                found[number] = line[index:].rstrip()
                break
    return found


def _path(tables: Mapping[str, Any]) -> str:
    """The dotted name of the one table or value in these tables."""
    path = []
    while isinstance(tables, Mapping) and len(tables) == 1:
        [(key, tables)] = tables.items()
        path.append(key)
    return ".".join(path)


def _rank(key: str, rank: Mapping[str, int]) -> tuple[int, ...]:
    """Where a key's table is among today's, then where the key is in it; what is not known comes last."""
    table = key.rpartition(".")[0]
    last = len(rank)
    return rank.get(table, last), rank.get(key, last)


def _key(name: str) -> str:
    return tomli_w.dumps({name: 0}).partition(" = ")[0]


def _value(value: Any) -> str:
    """On one line, so that there is a place for its comment."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())} }}"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")
