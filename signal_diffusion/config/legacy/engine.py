"""Translates the dotted keys of an older file by tables of rows, one layout after the other.

A conversion takes the value and the file before the step, since the meaning of some values depends on others. It never
fails on a value of a wrong type: it passes the value on to the new key, whose own check reports what was expected.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from signal_diffusion.config.dotted import nested
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.config.hints import did_you_mean

__all__ = [
    "Convert",
    "Default",
    "Expected",
    "File",
    "Left",
    "Refused",
    "Row",
    "Several",
    "cases",
    "defaults",
    "keep",
    "lower",
    "rows",
]


class Refused(ValueError):  # noqa: N818  # a result of a conversion, like those below
    """The value is invalid in the older layout, or today's layout cannot express it."""


@dataclass(frozen=True)
class Left:
    """The result of a conversion that leaves the value behind, or a part of it."""

    reason: str
    is_lost: bool = False
    """Whether the experiment changes by that."""
    instead: Any = None
    """The value of the row's first new key; None = not set."""


@dataclass(frozen=True)
class Expected:
    """The result of a conversion whose value is only checked against the dataset: `Expectation.quantity`."""

    quantity: str


class Several(dict[str, Any]):
    """The result of a conversion that sets these keys."""


Convert = Callable[[Any, "File"], Any]
"""(value, file) → the value of the row's first new key, or one of the above; raises `Refused`."""


def keep(value: Any, file: File) -> Any:
    """The value as it is."""
    return value


def lower(value: Any, file: File) -> Any:
    """A name, ignoring case."""
    return value.lower() if isinstance(value, str) else value


def cases(results: Mapping[Any, Any], *, other: Convert | None = None) -> Convert:
    """The result for each value, ignoring the case of texts; `other` converts other values, None = they are errors."""

    def convert(value: Any, file: File) -> Any:
        name = lower(value, file)
        if isinstance(name, Hashable) and name in results:
            return results[name]
        if other:
            return other(value, file)
        names, reasons = [*map(repr, results)], [each.reason for each in results.values() if isinstance(each, Left)]
        expected = f"one of {', '.join(names)}" if names[1:] else names[0]
        raise Refused(f"expected {expected}, found {value!r}" + (f": {reasons[0]}" if len(names) == 1 else ""))

    return convert


@dataclass(frozen=True)
class Row:
    """An older key, and the keys that replace it."""

    old: str
    """Dotted; * as the last part stands for every other key of the table."""
    new: tuple[str, ...]
    """Keys that it may set; () = derived or left behind."""
    note: str
    """How the value changes, for docs/migration.md; the reason for a key without new keys and conversion."""
    convert: Convert | None
    """None = same value, under the only new key."""


def rows(text: str, conversions: Mapping[str, Any]) -> tuple[Row, ...]:
    """Rows from lines "old | new | note | conversion"; {a, b} stands for one row per name, with {} as the name."""
    made = []
    for line in filter(None, map(str.strip, text.splitlines())):
        old, new, note, name, *_ = [*map(str.strip, line.split("|")), "", "", ""]
        names = re.search(r"\{(.+?)\}", old)
        for each in names[1].split(", ") if names else [""]:
            one = old.replace(names[0], each) if names else old
            made.append(Row(one, tuple(new.replace("{}", each).split()), note, conversions[name] if name else None))
    return tuple(made)


@dataclass(frozen=True)
class Default:
    """A default of an older layout that differs from today's."""

    phrase: str
    """What the layout does, such as "trains one epoch"."""
    values: Mapping[str, Any]
    """By today's key; they are set together, unless the file gives one of them another value."""
    needs_decision: bool = False


def defaults(lines: Iterable[str]) -> tuple[Default, ...]:
    """Defaults from lines "phrase | key = value; key = value", with values as in TOML; "decide" after a third |."""
    made = []
    for line in filter(None, map(str.strip, lines)):
        phrase, values, *decide = line.split(" | ")
        pairs = (each.split(" = ") for each in values.split("; "))
        made.append(Default(phrase, {key: tomllib.loads(f"x = {value}")["x"] for key, value in pairs}, bool(decide)))
    return tuple(made)


@dataclass
class File:
    """An older file, translated so far, and what the translation changed."""

    values: dict[str, Any]
    """By dotted key of the layout that was reached; None = null."""
    layout: str = ""
    written: Mapping[str, Any] = field(default_factory=dict)
    """The values of the file, by its own dotted keys."""
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Keys in the file, by the key that they became."""
    left: dict[str, Left] = field(default_factory=dict)
    """Keys in the file that are left behind."""
    implied: list[Default] = field(default_factory=list)
    """Defaults of the older layout that differ from today's."""
    expected: list[Expectation] = field(default_factory=list)
    """Sizes that the dataset must have; today they are derived from it."""
    mistakes: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    """(Key, message, keys that would be set)."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values of `--set`, by today's keys."""

    @property
    def tables(self) -> dict[str, Any]:
        """The values as tables."""
        return nested(self.values)

    @property
    def problems(self) -> list[tuple[str, str]]:
        """(Key, message) of each mistake that `--set` does not correct."""
        return [(key, message) for key, message, new in self.mistakes if not set(new).intersection(self.given)]

    @property
    def origins(self) -> dict[str, str]:
        """The file's own key for each key that has another name there."""
        return {key: sources[0] for key, sources in self.sources.items() if sources[0] != key}

    def get(self, *keys: str, default: Any = None) -> Any:
        """The first value that is not None for these keys."""
        return next((self.values[key] for key in keys if self.values.get(key) is not None), default)

    def step(self, table: Iterable[Row]) -> None:
        """Translate by one table of rows."""
        exact = {row.old: row for row in table}
        found = {key: exact.get(key) or exact.get(f"{key.rpartition('.')[0]}.*") for key in self.values}
        before = File(self.values, sources={key: self.sources.get(key, (key,)) for key in self.values})
        self.values = {key: value for key, value in before.values.items() if found[key] is None}
        self.sources = {key: before.sources[key] for key in self.values}
        for key, row in found.items():
            if row is not None:
                self._apply(row, key, before)

    def _apply(self, row: Row, key: str, before: File) -> None:
        value, sources = before.values[key], before.sources[key]
        try:
            new = row.convert(value, before) if row.convert else value if row.new else Left(row.note)
        except Refused as error:
            self.mistakes.append((sources[0], str(error), row.new))
            return
        if isinstance(new, Left):
            self.left |= dict.fromkeys(sources, new if new.reason else replace(new, reason=row.note))
            new = {} if new.instead is None else {row.new[0]: new.instead}
        elif isinstance(new, Expected):
            self.expected += [Expectation(source, new.quantity, value) for source in sources]
            new = {}
        elif not isinstance(new, Several):
            new = {row.new[0]: new} if row.new else {}
        for name, each in new.items():
            self._set(name.replace("*", key.rpartition(".")[2]), each, sources)

    def _set(self, key: str, value: Any, sources: tuple[str, ...]) -> None:
        """Set a new key; a conflict with another value there is a problem."""
        found = self.values.get(key)
        others = self.sources.get(key, ()) if found is not None else ()
        if found is not None and value is None:
            return
        if found not in (None, value):
            sides = f"{found!r} as {others[0]} and {value!r} as {sources[0]}"
            self.mistakes.append((key, f"{sides} conflict; remove one of the two", (key,)))
            return
        self.values[key] = value
        self.sources[key] = tuple(dict.fromkeys((*others, *sources)))

    def report_unknown_keys(self, table: Iterable[Row], known: Collection[str]) -> None:
        """Report and remove the keys that remain in tables of the older layout, except if only today's could hint."""
        keys = [tuple(row.old.rpartition(".")[::2]) for row in table if not row.old.endswith("*")]
        tables = {name for name, _ in keys} - {"", *known}
        for key in [key for key in self.values if key not in known]:
            parts = key.split(".")
            within = [end for end in range(1, len(parts)) if ".".join(parts[:end]) in tables]
            end = within[-1] if within else len(parts) - 1
            name, last = ".".join(parts[:end]), parts[end]
            shared = () if within else [each.rpartition(".")[2] for each in known if each.rpartition(".")[0] == name]
            hint = did_you_mean(last, {*shared, *(each for table_name, each in keys if table_name == name)})
            if within or (hint and shared and self.sources[key] == (key,) and name != "model.architecture"):
                problem = (f"{name}.{last}", f"unknown key{hint}", ())
                self.mistakes += [problem] if problem not in self.mistakes else []
                del self.values[key], self.sources[key]

    def imply(self, implied: Iterable[Default]) -> None:
        """Set the defaults that the file leaves unsaid."""
        for default in implied:
            said = {key: self.values[key] for key in default.values if self.values.get(key) is not None}
            missing = {key: value for key, value in default.values.items() if key not in said}
            if missing and all(default.values[key] == value for key, value in said.items()):
                self.values |= missing
                self.implied.append(replace(default, values=missing))

    def leave(self, reasons: Mapping[str, str]) -> None:
        """Leave keys behind that have no effect, and are not from `--set`."""
        for key in [key for key in reasons if key in self.values and key not in self.given]:
            del self.values[key]
            for source in self.sources.pop(key, ()):
                self.left.setdefault(source, Left(reasons[key]))
        kept = [{key: value for key, value in each.values.items() if key in self.values} for each in self.implied]
        self.implied = [replace(each, values=values) for each, values in zip(self.implied, kept, strict=True) if values]
