"""The text of a migrated experiment file: the current tables and order, with the comments of an older TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.legacy.translation import Translation
from signal_diffusion.config.plain import shown

__all__ = ["Comments", "comments_in", "rewritten"]


@dataclass(kw_only=True)
class Comments:
    """The comments of a TOML file by position; each line includes its #."""

    head: list[str] = field(default_factory=list)
    """At the start of the file, followed by an empty line."""
    above: dict[str, list[str]] = field(default_factory=dict)
    """Above a key, or above the header of its table if it is the first key, by dotted key."""
    inline: dict[str, str] = field(default_factory=dict)
    """On the line of a key, by dotted key."""
    tail: list[str] = field(default_factory=list)
    """After the last key."""

    def add(self, key: str, above: Iterable[str], inline: str) -> None:
        """Add comments to a key, after those that it already has."""
        self.above.setdefault(key, []).extend(above)
        self.inline[key] = "  ".join(filter(None, (self.inline.get(key), inline)))

    def renamed(self, names: Mapping[str, str]) -> Comments:
        """The same comments with keys renamed; several keys may get the same name."""
        comments = Comments(head=self.head, tail=self.tail)
        for key, above in self.above.items():
            comments.add(names.get(key, key), above, self.inline[key])
        return comments


def comments_in(text: str) -> Comments:
    """Extract the comments of a valid TOML text."""
    comments, table, entry = Comments(), "", ""
    waiting: list[str] = []
    for line in text.split("\n"):
        entry = f"{entry}\n{line}" if entry else line.strip()
        if not entry:
            if waiting and not (table or comments.above or comments.inline or comments.head):
                comments.head, waiting = waiting, []
        elif entry.startswith("#"):
            waiting.append(entry)
        elif (parsed := _parsed(entry)) is None:
            continue  # a value that continues on the next line
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
    """The text of a file in the current layout, which is read as the same experiment as the older file.

    Parameters
    ----------
    translation
        Translation of the older file.
    known
        The current keys, in the order in which to write them.
    comments
        Comments of the older file, by its own keys.
    command
        The command to name at the top of the file.
    """
    new_names = {old: key for key, old in translation.origins.items()}
    new_names |= {move.old: next(iter(move.new)) for move in translation.moved if move.new}
    written = dict(dotted(translation.tables))
    moved = comments.renamed(new_names)
    rank = {key: number for number, key in enumerate(known)}
    lines, table = [*comments.head, f"# Written by {command}"], ""
    for key in sorted(written, key=lambda key: _rank(key, rank)):
        name, _, last = key.rpartition(".")
        if name != table:
            lines += ["", f"[{name}]"]
            table = name
        comment = f"  {moved.inline[key]}" if moved.inline.get(key) else ""
        lines += [*moved.above.get(key, ()), f"{_key(last)} = {_value(written[key])}{comment}"]
    orphaned = [old for old in comments.above if new_names.get(old, old) not in written]
    return "\n".join([*lines, *_dropped_keys(translation, comments, orphaned), *comments.tail]) + "\n"


def _dropped_keys(translation: Translation, comments: Comments, orphaned: list[str]) -> list[str]:
    """Comments for the end of the new file: the older keys that it lacks, with their reasons and own comments."""
    reasons = [(each.old, each.value, each.reason) for each in translation.dropped]
    reasons += [(each.key, each.value, "derived from the dataset") for each in translation.expected]
    listed = {old for old, _, _ in reasons}
    lines = []
    for old, value, reason in reasons:
        inline = f"  {comments.inline[old]}" if old in orphaned and comments.inline[old] else ""
        lines += [*(comments.above[old] if old in orphaned else ())]
        lines.append(f"#   {old} = {shown(value)}: {reason}{inline}")
    for old in orphaned:
        if old not in listed:  # merged with another key
            lines += [*comments.above[old], *filter(None, [comments.inline[old]])]
    return ["", "# Keys of the older file that this one does not have:", *lines] if lines else []


def _parsed(entry: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(entry)
    except tomllib.TOMLDecodeError:
        return None


def _comments_of(entry: str, parsed: Mapping[str, Any]) -> list[str]:
    """The comment of each line: it starts at the first # whose removal does not change what is parsed."""
    lines = entry.split("\n")
    found = [""] * len(lines)
    for number, line in enumerate(lines):
        for index in (index for index, letter in enumerate(line) if letter == "#"):
            if _parsed("\n".join([*lines[:number], line[:index], *lines[number + 1 :]])) == parsed:
                found[number] = line[index:].rstrip()
                break
    return found


def _path(tables: Mapping[str, Any]) -> str:
    """The dotted name of the only table or value in these tables."""
    path = []
    while isinstance(tables, Mapping) and len(tables) == 1:
        [(key, tables)] = tables.items()
        path.append(key)
    return ".".join(path)


def _rank(key: str, rank: Mapping[str, int]) -> tuple[int, ...]:
    """Sort key: position of the table, then of the key in it; unknown ones come last."""
    table = key.rpartition(".")[0]
    last = len(rank)
    return rank.get(table, last), rank.get(key, last)


def _key(name: str) -> str:
    return tomli_w.dumps({name: 0}).partition(" = ")[0]


def _value(value: Any) -> str:
    """A value as TOML on one line, so that a comment can follow it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(each)}' for key, each in value.items())} }}"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")
