"""Translates an experiment file of an older layout to today's: the keys, the layout's own defaults, and `--set`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, SimpleNamespace
from typing import Any

from signal_diffusion.config import rules, schema
from signal_diffusion.config.dotted import dotted, nested
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.config.legacy import flat_toml, yaml_layouts
from signal_diffusion.config.legacy.engine import Default, File, Left, Row
from signal_diffusion.config.plain import plain
from signal_diffusion.config.removed import REMOVED

__all__ = ["FLAT_TOML", "FLAT_YAML", "GROUPED_YAML", "STEPS", "TODAYS", "Translation", "destinations", "translated"]

FLAT_TOML = "flat TOML"
FLAT_YAML = "flat YAML"
GROUPED_YAML = "grouped YAML"
TODAYS = "today's layout with older keys"

_YAML_STEPS = (yaml_layouts.V1_TO_V2, yaml_layouts.V2_TO_TODAY)
STEPS: Mapping[str, tuple[tuple[Row, ...], ...]] = {
    FLAT_TOML: (flat_toml.TO_TODAY,),
    FLAT_YAML: _YAML_STEPS,
    GROUPED_YAML: _YAML_STEPS,
    TODAYS: (flat_toml.TO_TODAY, *_YAML_STEPS),
}
"""The tables of rows that are applied one after the other."""
_GUIDANCE = ("training.visualization.guidance_scale", "generation.sampling.guidance_scale")


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A file in today's layout, and what the translation changed."""

    layout: str
    tables: dict[str, Any]
    """With the values of `--set`."""
    written: Mapping[str, Any]
    """The values of the file, by its own dotted keys."""
    sources: Mapping[str, tuple[str, ...]]
    """The file's own keys for each key of today's that they became."""
    implied: tuple[Default, ...]
    """Defaults of the older layout that differ from today's."""
    left: Mapping[str, Left]
    """Keys of the file that are left behind."""
    expected: tuple[Expectation, ...]
    """Sizes that the dataset must have; today they are derived from it."""
    problems: tuple[tuple[str, str], ...]
    """(Dotted key, message)."""

    @property
    def origins(self) -> dict[str, str]:
        """The file's own key for each key that has another name there."""
        return {key: sources[0] for key, sources in self.sources.items() if sources[0] != key}


def translated(
    tables: Mapping[str, Any],
    known: Collection[str],
    given: Mapping[str, Any] = MappingProxyType({}),
    *,
    yaml: bool = False,
    is_older: bool = True,
) -> Translation:
    """Translate the tables of an older file.

    Parameters
    ----------
    tables
        As read from TOML or, with `yaml`, from YAML.
    known
        Today's keys, dotted.
    given
        Values of `--set` by today's keys; they replace those of the file.
    is_older
        False for a file of today's layout with some older keys, which gets no defaults of an older layout.
    """
    kept, problems = plain(tables)
    pairs, layout = list(dotted(kept)), _layout(kept, yaml=yaml) if is_older else TODAYS
    problems += [
        (key, "is given twice, once in quotes") for key, count in Counter(key for key, _ in pairs).items() if count > 1
    ]
    written = dict(pairs)
    file = File(dict(written), problems=[(*each, ()) for each in problems])
    values = set(known) - {key.rpartition(".")[0] for key in known}
    steps = [[row for row in rows if is_older or row.old not in values] for rows in STEPS[layout]]
    for rows in steps:
        file.step(rows)
    file.report_unknown_keys([row for rows in steps for row in rows], known)
    unset = {key for key, value in file.values.items() if value is None and _may_be_null(key, file, known)}
    file.values = {key: value for key, value in file.values.items() if key not in unset}
    sources = {key: file.sources[key] for key in file.values if key not in given}
    file.values, file.sources = {**file.values, **given}, dict(sources)
    implied = file.imply(_implied(layout, file.values))
    for key, reason in _without_effect(file.values).items() if is_older else ():
        if key in file.values and key not in given:
            file.leave(key, reason)
    tables = nested(file.values)
    return Translation(
        layout=layout,
        tables=tables,
        written=written,
        sources={key: file.sources[key] for key, _ in dotted(tables) if key in file.sources},
        implied=tuple(_effective(implied, file.values)),
        left=file.left,
        expected=tuple(file.expected),
        problems=tuple((key, why) for key, why, new in file.problems if not set(new).intersection(given)),
    )


def destinations(key: str) -> tuple[str, ...] | None:
    """The names today of an older key, () if it has none; None if it is no older key."""
    for layout in (FLAT_TOML, FLAT_YAML):
        names: tuple[str, ...] = (key,)
        for rows in STEPS[layout]:
            names = tuple(new for name in names for new in _renamed(name, rows))
        if names != (key,):
            return names
    return None


def _renamed(key: str, rows: Iterable[Row]) -> tuple[str, ...]:
    table, _, last = key.rpartition(".")
    for row in rows:
        if row.old in (key, f"{table}.*"):
            return tuple(new.replace("*", last) for new in row.new)
    return (key,)


def _implied(layout: str, values: Mapping[str, Any]) -> tuple[Default, ...]:
    if layout == TODAYS:
        return ()
    if layout == FLAT_TOML:
        return flat_toml.implied(values)
    return yaml_layouts.implied(values, is_flat=layout == FLAT_YAML)


def _layout(tables: Mapping[str, Any], *, yaml: bool) -> str:
    if not yaml:
        return FLAT_TOML
    grouped = ("compute.", "model.architecture.", "model.diffusion.", "data.paths.", "data.loading.", "output.base_dir")
    return GROUPED_YAML if any(key.startswith(grouped) for key, _ in dotted(tables)) else FLAT_YAML


def _may_be_null(key: str, file: File, known: Collection[str]) -> bool:
    """Whether null means not set; for unknown keys, and for those of a network, their own checks report it."""
    return key in known or (key.startswith("model.architecture.") and file.sources[key] != (key,))


def _without_effect(values: Mapping[str, Any]) -> dict[str, str]:
    """Keys without effect given the others; older layouts allowed them, unlike today's."""
    defaults = dict(dotted(dataclasses.asdict(schema.Experiment())))
    merged = defaults | {key: value for key, value in values.items() if key in defaults}
    reasons = rules.without_effect(_namespace(nested(merged)))  # type: ignore[arg-type]
    if merged["model.conditioning.type"] == "none":
        why = "guidance needs a condition, and this model has none"
        reasons |= {key: why for key in _GUIDANCE if values.get(key) != 1}
    return reasons | REMOVED


def _namespace(tables: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        **{key: _namespace(value) if isinstance(value, dict) else value for key, value in tables.items()}
    )


def _effective(implied: Iterable[Default], values: Mapping[str, Any]) -> Iterable[Default]:
    """The defaults without those that have no effect."""
    for default in implied:
        if kept := {key: value for key, value in default.values.items() if key in values}:
            yield dataclasses.replace(default, values=kept)
