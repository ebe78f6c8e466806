"""Older layouts of an experiment file → today's, by the rows of `rows`.

What a file says is moved, or derived from other things today, or left behind; each is told, nothing is dropped in
silence. Keys of older layouts in a file of today's are read in the same way.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from signal_diffusion.config import rules, schema
from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.legacy.outcomes import HERE, Expectation, MistakeError, Outcome, Written
from signal_diffusion.config.legacy.plain import plain, shown
from signal_diffusion.config.legacy.rows import (
    FLAT_TOML,
    FLAT_TOML_TABLES,
    FLAT_YAML,
    GROUPED_YAML,
    IMPLIED,
    OWN_TABLES,
    ROWS,
    TODAY,
    Row,
)

__all__ = ["Left", "Move", "Translation", "layout_of", "translated"]

_TODAYS_TABLES = (
    *("compute", "data.paths", "data.columns", "data.loading", "data.augmentation", "data.balancing"),
    *("model.architecture", "model.diffusion", "model.conditioning", "model.autoencoder"),
    *("training.optimizer", "training.scheduler", "training.ema", "training.checkpointing", "training.validation"),
    *("training.visualization", "training.performance", "training.resume", "generation", "output"),
)
_GUIDANCE = ("training.visualization.guidance_scale", "generation.sampling.guidance_scale")


@dataclass(frozen=True)
class Move:
    """An older key and value, and what they are today, by key."""

    old: str
    value: Any
    new: Mapping[str, Any]


@dataclass(frozen=True)
class Left:
    """A key that a file has and today's experiment has not, and why."""

    old: str
    value: Any
    reason: str


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A file in today's layout, and how it came there."""

    layout: str
    tables: dict[str, Any]
    moved: tuple[Move, ...] = ()
    implied: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What went without saying in the older layout, by today's key."""
    left: tuple[Left, ...] = ()
    expected: tuple[Expectation, ...] = ()
    """What the dataset has to be like; derived from it today."""
    problems: tuple[tuple[str, str], ...] = ()
    """(Dotted key, message)."""

    @property
    def origins(self) -> dict[str, str]:
        """The file's own key for each of today's that it does not have under that name."""
        return {key: move.old for move in self.moved for key in move.new if key != move.old}


def layout_of(tables: Mapping[str, Any], *, yaml: bool) -> str:
    """Which layout a file has; of TOML tables of both kinds, the one that it has no fewer of, else today's."""
    written = Written(tables)
    if yaml:
        grouped = ("compute", "model.architecture", "model.diffusion", "data.paths", "data.loading", "output.base_dir")
        return GROUPED_YAML if any(written(key) is not None for key in grouped) else FLAT_YAML
    older = sum(isinstance(written(table), Mapping) for table in FLAT_TOML_TABLES)
    older += isinstance(written("model.conditioning"), str)
    todays = sum(isinstance(written(table), Mapping) for table in _TODAYS_TABLES)
    return FLAT_TOML if older and older >= todays else TODAY


def translated(
    tables: Mapping[str, Any], known: Collection[str], *, yaml: bool = False, chosen: Mapping[str, Any] | None = None
) -> Translation:
    """Put the tables of a file into today's layout.

    Parameters
    ----------
    tables
        As read from TOML or, with `yaml`, from YAML, which only older layouts are written in.
    known
        Today's keys, dotted.
    chosen
        What wins over the file, in today's layout: conversions and what is implied go by it. It is not in the result.
    """
    kept, problems = plain(tables)
    reading = _Reading(Written(kept, chosen or {}), layout_of(kept, yaml=yaml), known, problems)
    reading.count_chosen_intervals_in_steps()
    for row in ROWS:
        if not row.only or reading.layout in row.only:
            reading.apply(row)
    reading.refuse_leftovers()
    if reading.layout != TODAY:
        reading.imply()
    reading.leave_what_has_no_effect()
    return reading.translation()


class _Reading:
    """The tables of a file on their way."""

    def __init__(self, written: Written, layout: str, known: Collection[str], problems: list[tuple[str, str]]) -> None:
        self.layout, self.known, self.problems = layout, known, problems
        self.written = written
        self.chosen = set(dict(dotted(written.chosen)))
        self.tables: dict[str, Any] = copy.deepcopy(dict(written.tables))
        self.moved: list[Move] = []
        self.implied: dict[str, Any] = {}
        self.left: list[Left] = []
        self.expected: list[Expectation] = []

    def translation(self) -> Translation:
        return Translation(
            layout=self.layout,
            tables=self.tables,
            moved=tuple(self.moved),
            implied=self.implied,
            left=tuple(self.left),
            expected=tuple(self.expected),
            problems=tuple(self.problems),
        )

    def count_chosen_intervals_in_steps(self) -> None:
        """An interval of `--set` has today's unit, not that of the interval whose place it takes."""
        units = [key for key in self.known if key.endswith(".unit")]
        for unit in units:
            table = unit.removesuffix(".unit")
            if f"{table}.interval" in self.chosen and unit not in self.chosen:
                self.chosen.add(unit)
                if "unit" in _table(self.tables, table):
                    self.left.append(Left(unit, _pop(self.tables, table, "unit"), "--set counts steps"))

    # What rows do ---------------------------------------------------------------------------------------------------

    def apply(self, row: Row) -> None:
        """Move the row's key, or each of a table's."""
        if row.convert is None and row.new == (row.old,) and row.old in self.known:
            return  # as it is today
        table, _, last = row.old.rpartition(".")
        found = _table(self.tables, table)
        for key in [last] if last != "*" else list(found):
            if key in found and not isinstance(found[key], dict):
                self._apply(row, f"{table}.{key}" if table else key, _pop(self.tables, table, key))

    def _apply(self, row: Row, old: str, value: Any) -> None:
        last = old.rpartition(".")[2]
        new = [key.replace("*", last) for key in row.new]
        if value is None and row.convert is None and ("*" not in row.old or new[0] in self.known):
            return  # a null is no value
        try:
            outcome = row.convert(value, self.written) if row.convert else Outcome(values={HERE: value})
        except MistakeError as mistake:
            if not self.chosen.intersection(new[:1]):
                self.problems.append((old, str(mistake)))
                return
            outcome = Outcome(values={HERE: value})  # whatever it is, it is not read
        values = {key or new[0]: converted for key, converted in outcome.values.items()}
        if values and self.chosen.issuperset(values):
            self.left.append(Left(old, value, "--set wins"))
        values = {key: converted for key, converted in values.items() if self._set(key, converted, old, values)}
        if values and shown(values) != shown({old: value}):
            self.moved.append(Move(old, value, values))
        if outcome.left:
            self.left.append(Left(old, value, outcome.left))
        if outcome.expected:
            self.expected.append(Expectation(old, *outcome.expected))

    def _set(self, key: str, value: Any, old: str, beside: Mapping[str, Any]) -> bool:
        """Put a value where it belongs; whether nothing else is there. `beside` are all of the same older key."""
        if key in self.chosen:
            return False
        table, _, last = key.rpartition(".")
        there = _table(self.tables, table, make=True)
        if there is None:
            self.problems.append((old, f"goes to {key}, but the file has a value in the place of its table"))
            return False
        found, steps = there.get(last), last == "interval" and f"{table}.unit" in beside and "unit" not in there
        if found is not None and (found != value or steps):
            names = {name: move.old for move in self.moved for name in move.new}
            units = (" (steps)", f" ({beside[f'{table}.unit']})") if steps else ("", "")
            sides = f"{found!r} as {names.get(key, key)}{units[0]} and {value!r} as {old}{units[1]}"
            self.problems.append((key, f"{sides}; expected one of the two"))
            return False
        there[last] = value
        return True

    # What follows from all of them ----------------------------------------------------------------------------------

    def refuse_leftovers(self) -> None:
        """What older tables still hold is no key of any layout; and a null is none at all."""
        for name in OWN_TABLES:
            for key in list(_table(self.tables, name)):
                keys = [row.old for row in ROWS if row.old.startswith(f"{name}.") and not row.old.endswith("*")]
                close = difflib.get_close_matches(f"{name}.{key}", keys, n=1)
                hint = f" (did you mean {close[0].rpartition('.')[2]!r}?)" if close else ""
                self.problems.append((f"{name}.{key}", f"unknown key{hint}"))
                _pop(self.tables, name, key)
            table, _, last = name.rpartition(".")
            if _table(self.tables, table).get(last) == {}:
                _pop(self.tables, table, last)
        if self.layout in (FLAT_YAML, GROUPED_YAML):
            if self.written("data.paths.val", "data.val_path", "data.paths.root") is None:
                self._replace("training.validation.enabled", False, "there is nothing to validate on")
            _drop_nulls(
                self.tables, _with_tables({*self.known, *OWN_TABLES, *(k for row in ROWS for k in (row.old, *row.new))})
            )

    def imply(self) -> None:
        """What goes without saying in an older layout and not in today's."""
        written = Written(self.tables, self.written.chosen)
        for values in (*IMPLIED[self.layout], *_more_unsaid(self.layout, written)):
            given = {key: written(key) for key in values}
            if all(found in (None, values[key]) for key, found in given.items()) and None in given.values():
                for key in values:
                    if given[key] is None:
                        self._imply(key, values[key])

    def _imply(self, key: str, value: Any) -> None:
        table, _, last = key.rpartition(".")
        there = _table(self.tables, table, make=True)
        if there is not None and key not in self.chosen:  # a value in the place of the table is told of elsewhere
            there[last] = self.implied[key] = value

    def leave_what_has_no_effect(self) -> None:
        """An older file says much that has no effect beside the rest, which is a mistake in today's layout."""
        merged = _merged(_merged(dataclasses.asdict(schema.Experiment()), self.tables), self.written.chosen)
        reasons = rules.without_effect(_namespace(merged))  # type: ignore[arg-type]
        if Written(merged)("model.conditioning.type") == "none":
            without = dict.fromkeys(_GUIDANCE, "guidance needs a condition, and this model has none")
            reasons |= {key: why for key, why in without.items() if Written(self.tables)(key) != 1}
        older = {key for move in self.moved for key in move.new}
        for key, reason in reasons.items():
            if self.layout != TODAY or key in older:
                self._leave(key, reason)

    def _leave(self, key: str, reason: str) -> None:
        table, _, last = key.rpartition(".")
        if last not in _table(self.tables, table):
            return
        value = _pop(self.tables, table, last)
        if self.implied.pop(key, None) is not None:
            return
        for index, move in enumerate(self.moved):
            if key in move.new:
                self.moved[index] = Move(move.old, move.value, {k: v for k, v in move.new.items() if k != key})
                self.left.append(Left(move.old, move.value, reason))
                return
        self.left.append(Left(key, value, reason))

    def _replace(self, key: str, value: Any, reason: str) -> None:
        found = Written(self.tables)(key)
        if found != value:
            if found is not None:
                self.left.append(Left(key, found, reason))
            self._imply(key, value)


def _more_unsaid(layout: str, written: Written) -> list[dict[str, Any]]:
    """What goes without saying in a layout beside some values of other keys."""
    implied: list[dict[str, Any]] = []
    if written.file("training.ema") and written("training.ema.enabled", default=True) is True:
        implied.append({"training.ema.update_every": schema.Ema().update_every})
    if layout == FLAT_TOML:
        return implied
    levels, steps = written("model.diffusion.num_timesteps"), schema.Sampling().steps
    if type(levels) is int and levels < steps:
        implied.append({"generation.sampling.steps": levels})
    if written("training.optimizer.type", default="adam") == "adam":
        implied.append({"training.optimizer.weight_decay": 0.0})
    conditional = written("model.conditioning.type") == "class"
    if conditional and written("model.conditioning.cfg_dropout") != 0:
        implied += [{key: 3.0} for key in _GUIDANCE]
    if layout == FLAT_YAML:
        classes = written("model.conditioning.num_classes")
        total = 2 * classes if conditional and type(classes) is int else 8
        implied.append({"training.visualization.num_samples": total})
    return implied


def _table(tables: dict[str, Any], name: str, *, make: bool = False) -> Any:
    """A table by its dotted name: {} where there is none; with `make`, one is made, or None where a value is."""
    table: Any = tables
    for part in name.split(".") if name else ():
        if make and table.get(part) is None:
            table[part] = {}
        if not isinstance(table.get(part), dict):
            return None if make else {}
        table = table[part]
    return table


def _pop(tables: dict[str, Any], name: str, key: str) -> Any:
    """Take a value out of a table, and the table out of its own where nothing else is in it."""
    table = _table(tables, name)
    value = table.pop(key)
    if name and not table:
        above, _, last = name.rpartition(".")
        _pop(tables, above, last)
    return value


def _with_tables(keys: Collection[str]) -> set[str]:
    """The keys, and the tables that they are in."""
    return {".".join(parts[:end]) for parts in (key.split(".") for key in keys) for end in range(1, len(parts) + 1)}


def _drop_nulls(tables: dict[str, Any], known: Collection[str], prefix: str = "") -> None:
    """Take out the nulls of known keys; those of others stay, and are found to be unknown."""
    for key, value in list(tables.items()):
        if value is None and f"{prefix}{key}" in known:
            del tables[key]
        elif isinstance(value, dict):
            _drop_nulls(value, known, f"{prefix}{key}.")


def _merged(defaults: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults with what a file says in their place, where that has the form of a table."""
    merged = dict(defaults)
    for key, default in defaults.items():
        if key in tables and isinstance(default, dict) and isinstance(tables[key], Mapping):
            merged[key] = _merged(default, tables[key])
        elif key in tables and not isinstance(default, dict):
            merged[key] = tables[key]
    return merged


def _namespace(tables: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        **{key: _namespace(value) if isinstance(value, dict) else value for key, value in tables.items()}
    )
