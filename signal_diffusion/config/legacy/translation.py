"""Translates an experiment file from an older layout to the current one, by the rows of `rows`.

Each older key is moved, derived from something else, or dropped; the translation records all three, so that nothing is
dropped silently. Older keys in a file of the current layout are translated in the same way.
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
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.config.legacy.outcomes import NEW_KEY, ConversionError, Outcome, Written
from signal_diffusion.config.legacy.rows import (
    CURRENT,
    FLAT_TOML,
    FLAT_TOML_TABLES,
    FLAT_YAML,
    GROUPED_YAML,
    IMPLIED,
    LEGACY_TABLES,
    ROWS,
    Row,
)
from signal_diffusion.config.plain import plain, shown

__all__ = ["Dropped", "Move", "Translation", "layout_of", "translated"]

_CURRENT_TABLES = (
    *("compute", "data.paths", "data.columns", "data.loading", "data.augmentation", "data.balancing"),
    *("model.architecture", "model.diffusion", "model.conditioning", "model.autoencoder"),
    *("training.optimizer", "training.scheduler", "training.ema", "training.checkpointing", "training.validation"),
    *("training.visualization", "training.performance", "training.resume", "generation", "output"),
)
_GUIDANCE = ("training.visualization.guidance_scale", "generation.sampling.guidance_scale")


@dataclass(frozen=True)
class Move:
    """An older key and value, and the new values by current key."""

    old: str
    value: Any
    new: Mapping[str, Any]


@dataclass(frozen=True)
class Dropped:
    """A key of the file that the experiment does not have, and why."""

    old: str
    value: Any
    reason: str


@dataclass(frozen=True, kw_only=True)
class Translation:
    """The tables of a file in the current layout, and what the translation changed."""

    layout: str
    tables: dict[str, Any]
    moved: tuple[Move, ...] = ()
    implied: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Defaults of the older layout that differ from the current ones, by current key."""
    dropped: tuple[Dropped, ...] = ()
    expected: tuple[Expectation, ...] = ()
    """Sizes that the dataset must have; they are now derived from it."""
    problems: tuple[tuple[str, str], ...] = ()
    """(Dotted key, message)."""

    @property
    def origins(self) -> dict[str, str]:
        """The file's own key for each current key that has another name there."""
        return {key: move.old for move in self.moved for key in move.new if key != move.old}


def layout_of(tables: Mapping[str, Any], *, yaml: bool) -> str:
    """The layout of a file; TOML with both kinds of tables is older if at least as many tables are older as current."""
    written = Written(tables)
    if yaml:
        grouped = ("compute", "model.architecture", "model.diffusion", "data.paths", "data.loading", "output.base_dir")
        return GROUPED_YAML if any(written(key) is not None for key in grouped) else FLAT_YAML
    older = sum(isinstance(written(table), Mapping) for table in FLAT_TOML_TABLES)
    older += isinstance(written("model.conditioning"), str)
    current = sum(isinstance(written(table), Mapping) for table in _CURRENT_TABLES)
    return FLAT_TOML if older and older >= current else CURRENT


def translated(
    tables: Mapping[str, Any], known: Collection[str], *, yaml: bool = False, overrides: Mapping[str, Any] | None = None
) -> Translation:
    """Translate the tables of a file to the current layout.

    Parameters
    ----------
    tables
        As read from TOML or, with `yaml`, from YAML, which only older layouts use.
    known
        The current keys, dotted.
    overrides
        Tables in the current layout that override the file. Conversions and implied values take them into account,
        but they are not part of the result.
    """
    kept, problems = plain(tables)
    translator = _Translator(Written(kept, overrides or {}), layout_of(kept, yaml=yaml), known, problems)
    translator.count_overridden_intervals_in_steps()
    for row in ROWS:
        if not row.only or translator.layout in row.only:
            translator.apply(row)
    translator.report_unknown_keys()
    if translator.layout != CURRENT:
        translator.imply()
    translator.drop_keys_without_effect()
    return translator.translation()


class _Translator:
    """The tables of a file during translation, changed in place step by step."""

    def __init__(self, written: Written, layout: str, known: Collection[str], problems: list[tuple[str, str]]) -> None:
        self.layout, self.known, self.problems = layout, known, problems
        self.written = written
        self.overridden = set(dict(dotted(written.override_tables)))
        self.tables: dict[str, Any] = copy.deepcopy(dict(written.tables))
        self.moved: list[Move] = []
        self.implied: dict[str, Any] = {}
        self.dropped: list[Dropped] = []
        self.expected: list[Expectation] = []

    def translation(self) -> Translation:
        return Translation(
            layout=self.layout,
            tables=self.tables,
            moved=tuple(self.moved),
            implied=self.implied,
            dropped=tuple(self.dropped),
            expected=tuple(self.expected),
            problems=tuple(self.problems),
        )

    def count_overridden_intervals_in_steps(self) -> None:
        """An interval set by `--set` counts steps, whatever the unit of the interval that it overrides."""
        units = [key for key in self.known if key.endswith(".unit")]
        for unit in units:
            table = unit.removesuffix(".unit")
            if f"{table}.interval" in self.overridden and unit not in self.overridden:
                self.overridden.add(unit)
                if "unit" in _table(self.tables, table):
                    self.dropped.append(Dropped(unit, _pop(self.tables, table, "unit"), "--set counts steps"))

    # Applying the rows ------------------------------------------------------------------------------------------------

    def apply(self, row: Row) -> None:
        """Move the row's key or, for a row that ends in *, each key of the table."""
        if row.convert is None and row.new == (row.old,) and row.old in self.known:
            return  # unchanged
        table, _, last = row.old.rpartition(".")
        found = _table(self.tables, table)
        for key in [last] if last != "*" else list(found):
            if key in found and not isinstance(found[key], dict):
                self._apply(row, f"{table}.{key}" if table else key, _pop(self.tables, table, key))

    def _apply(self, row: Row, old: str, value: Any) -> None:
        last = old.rpartition(".")[2]
        new = [key.replace("*", last) for key in row.new]
        if value is None and row.convert is None and ("*" not in row.old or new[0] in self.known):
            return  # null means not set
        try:
            outcome = row.convert(value, self.written) if row.convert else Outcome(values={NEW_KEY: value})
        except ConversionError as mistake:
            if not self.overridden.intersection(new[:1]):
                self.problems.append((old, str(mistake)))
                return
            outcome = Outcome(values={NEW_KEY: value})  # overridden, so it need not be valid
        values = {key or new[0]: converted for key, converted in outcome.values.items()}
        if values and self.overridden.issuperset(values):
            self.dropped.append(Dropped(old, value, "--set overrides it"))
        values = {key: converted for key, converted in values.items() if self._set(key, converted, old, values)}
        if values and shown(values) != shown({old: value}):
            self.moved.append(Move(old, value, values))
        if outcome.dropped:
            self.dropped.append(Dropped(old, value, outcome.dropped))
        if outcome.expected:
            self.expected.append(Expectation(old, *outcome.expected))

    def _set(self, key: str, value: Any, old: str, siblings: Mapping[str, Any]) -> bool:
        """Set a current key, and return whether it was set; a conflict with another value there is a problem.

        `siblings` are all values that come from the same older key.
        """
        if key in self.overridden:
            return False
        table, _, last = key.rpartition(".")
        there = _table(self.tables, table, make=True)
        if there is None:
            self.problems.append((old, f"is now {key}, but {table} is a value in this file; expected a table"))
            return False
        found, steps = there.get(last), last == "interval" and f"{table}.unit" in siblings and "unit" not in there
        if found is not None and (found != value or steps):
            names = {name: move.old for move in self.moved for name in move.new}
            units = (" (steps)", f" ({siblings[f'{table}.unit']})") if steps else ("", "")
            sides = f"{found!r} as {names.get(key, key)}{units[0]} and {value!r} as {old}{units[1]}"
            self.problems.append((key, f"{sides} conflict; remove one of the two"))
            return False
        there[last] = value
        return True

    # After all rows ---------------------------------------------------------------------------------------------------

    def report_unknown_keys(self) -> None:
        """Report keys that remain in older tables, and remove nulls of known keys."""
        for name in LEGACY_TABLES:
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
                self.tables,
                _with_tables({*self.known, *LEGACY_TABLES, *(k for row in ROWS for k in (row.old, *row.new))}),
            )

    def imply(self) -> None:
        """Set the defaults of the older layout that differ from the current ones."""
        written = Written(self.tables, self.written.override_tables)
        for values in (*IMPLIED[self.layout], *_conditional_defaults(self.layout, written)):
            given = {key: written(key) for key in values}
            if all(found in (None, values[key]) for key, found in given.items()) and None in given.values():
                for key in values:
                    if given[key] is None:
                        self._imply(key, values[key])

    def _imply(self, key: str, value: Any) -> None:
        table, _, last = key.rpartition(".")
        there = _table(self.tables, table, make=True)
        if there is not None and key not in self.overridden:  # a value instead of a table is reported elsewhere
            there[last] = self.implied[key] = value

    def drop_keys_without_effect(self) -> None:
        """Drop older keys that have no effect given the others; older layouts allowed them, unlike the current one."""
        merged = _merged(_merged(dataclasses.asdict(schema.Experiment()), self.tables), self.written.override_tables)
        reasons = rules.without_effect(_namespace(merged))  # type: ignore[arg-type]
        if Written(merged)("model.conditioning.type") == "none":
            without = dict.fromkeys(_GUIDANCE, "guidance needs a condition, and this model has none")
            reasons |= {key: why for key, why in without.items() if Written(self.tables)(key) != 1}
        older = {key for move in self.moved for key in move.new}
        for key, reason in reasons.items():
            if self.layout != CURRENT or key in older:
                self._drop(key, reason)

    def _drop(self, key: str, reason: str) -> None:
        table, _, last = key.rpartition(".")
        if last not in _table(self.tables, table):
            return
        value = _pop(self.tables, table, last)
        if self.implied.pop(key, None) is not None:
            return
        for index, move in enumerate(self.moved):
            if key in move.new:
                self.moved[index] = Move(move.old, move.value, {k: v for k, v in move.new.items() if k != key})
                self.dropped.append(Dropped(move.old, move.value, reason))
                return
        self.dropped.append(Dropped(key, value, reason))

    def _replace(self, key: str, value: Any, reason: str) -> None:
        found = Written(self.tables)(key)
        if found != value:
            if found is not None:
                self.dropped.append(Dropped(key, found, reason))
            self._imply(key, value)


def _conditional_defaults(layout: str, written: Written) -> list[dict[str, Any]]:
    """Defaults of an older layout that depend on the values of other keys."""
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
    """A table by its dotted name, {} if missing; with `make`, create it, and return None if a value is in its place."""
    table: Any = tables
    for part in name.split(".") if name else ():
        if make and table.get(part) is None:
            table[part] = {}
        if not isinstance(table.get(part), dict):
            return None if make else {}
        table = table[part]
    return table


def _pop(tables: dict[str, Any], name: str, key: str) -> Any:
    """Remove a value from a table, and the table itself if that leaves it empty."""
    table = _table(tables, name)
    value = table.pop(key)
    if name and not table:
        above, _, last = name.rpartition(".")
        _pop(tables, above, last)
    return value


def _with_tables(keys: Collection[str]) -> set[str]:
    """The keys, and the tables that contain them."""
    return {".".join(parts[:end]) for parts in (key.split(".") for key in keys) for end in range(1, len(parts) + 1)}


def _drop_nulls(tables: dict[str, Any], known: Collection[str], prefix: str = "") -> None:
    """Remove nulls of known keys; unknown keys stay, to be reported."""
    for key, value in list(tables.items()):
        if value is None and f"{prefix}{key}" in known:
            del tables[key]
        elif isinstance(value, dict):
            _drop_nulls(value, known, f"{prefix}{key}.")


def _merged(defaults: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, overridden by the values of a file; a value in place of a table is ignored."""
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
