"""The text of a migrated experiment file: today's tables and order, with the comments of an older TOML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tomlkit
from tomlkit.items import Array, Comment, InlineTable, Item, Table, Whitespace

from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.legacy.engine import File
from signal_diffusion.config.plain import shown

__all__ = ["Notes", "notes_in", "rewritten"]


@dataclass(kw_only=True)
class Notes:
    """The comments of a TOML file, each line with its #, and its values as they are written."""

    head: list[str] = field(default_factory=list)
    """At the start of the file, followed by an empty line."""
    above: dict[str, list[str]] = field(default_factory=dict)
    """Above a key, or above the header of its table if it is the first key, by dotted key."""
    items: dict[str, Item] = field(default_factory=dict)
    """By dotted key."""
    tail: list[str] = field(default_factory=list)
    """After the last key."""

    @property
    def inline(self) -> dict[str, str]:
        """The comment on the line of a key, by dotted key; "" if there is none."""
        return {key: item.trivia.comment for key, item in self.items.items()}


def notes_in(text: str) -> Notes:
    """Extract the comments of a valid TOML text."""
    notes, waiting = Notes(), list[str]()

    def walk(body: Iterable[tuple[Any, Item]], prefix: str) -> None:
        for key, item in body:
            if isinstance(item, Comment):
                waiting.append(item.as_string().strip())
            elif isinstance(item, Whitespace) or key is None:
                if waiting and not (prefix or notes.items or notes.head):
                    notes.head = [*waiting]
                    waiting.clear()
            elif isinstance(item, Table | InlineTable):
                waiting.extend(filter(None, [item.trivia.comment]))
                walk(item.value.body, f"{prefix}{key.key}.")
            else:
                notes.items[f"{prefix}{key.key}"], notes.above[f"{prefix}{key.key}"] = item, [*waiting]
                waiting.clear()

    walk(tomlkit.parse(text).body, "")
    notes.tail = waiting
    return notes


def rewritten(translation: File, known: Iterable[str], notes: Notes, command: str) -> str:
    """The text of a file in today's layout, which is read as the same experiment as the older file.

    Parameters
    ----------
    translation
        Translation of the older file.
    known
        Today's keys, in the order in which to write them.
    notes
        Comments of the older file.
    command
        The command to name at the top of the file.
    """
    rank = {key: number for number, key in enumerate(known)}
    values, used = dict(dotted(translation.tables)), set[str]()
    lines, table = [*notes.head, f"# Written by {command}"], ""
    for key in sorted(values, key=lambda key: _rank(key, rank)):
        name, _, last = key.rpartition(".")
        if name != table:
            lines += ["", f"[{name}]"]
            table = name
        sources = [source for source in translation.sources.get(key, ()) if source not in used]
        used.update(sources)
        above, text = _entry(values[key], sources, notes)
        lines += [*above, f"{tomlkit.key(last).as_string()} = {text}"]
    return "\n".join([*lines, *_left_behind(translation, notes, used), *notes.tail]) + "\n"


def _entry(value: Any, sources: Iterable[str], notes: Notes) -> tuple[list[str], str]:
    """The lines above a key, and its value with the comments behind it; as it was written, if it is the same."""
    above: list[str] = []
    behind, text = "", tomlkit.item(value).as_string()
    for source in sources:
        above += notes.above.get(source, [])
        if item := notes.items.get(source):
            written = item.as_string()
            if shown(item.unwrap()) == shown(value):
                text = written
            elif isinstance(item, Array) and "#" in written:  # its comments have no place in another value
                above += [f"# {line}".rstrip() for line in written.splitlines()]
            behind += f"  {item.trivia.comment}" if item.trivia.comment else ""
    return above, f"{text}{behind}"


def _left_behind(translation: File, notes: Notes, used: set[str]) -> list[str]:
    """Comments for the end of the new file: the older keys that it lacks, with their reasons and own comments."""
    reasons = {old: left.reason for old, left in translation.left.items()}
    reasons |= {each.key: "derived from the dataset" for each in translation.expected}
    lines = []
    for old, reason in reasons.items():
        comment = notes.inline.get(old, "")
        above = notes.above.get(old, []) if old not in used else []
        lines += [*above, f"#   {old} = {shown(translation.written[old])}: {reason}  {comment}".rstrip()]
    return ["", "# Keys of the older file that this one does not have:", *lines] if lines else []


def _rank(key: str, rank: Mapping[str, int]) -> tuple[int, ...]:
    """Sort key: position of the table, then of the key in it; unknown ones come last."""
    return rank.get(key.rpartition(".")[0], len(rank)), rank.get(key, len(rank))
