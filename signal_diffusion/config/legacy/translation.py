"""Translates an experiment file of an older layout to today's: the keys, the layout's own defaults, and `--set`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.config.dotted import dotted, nested
from signal_diffusion.config.legacy import flat_toml, yaml_layouts
from signal_diffusion.config.legacy.engine import Default, File, Row
from signal_diffusion.config.plain import plain
from signal_diffusion.config.removed import REMOVED
from signal_diffusion.config.rules.effects import without_effect

__all__ = ["FLAT_TOML", "FLAT_YAML", "GROUPED_YAML", "STEPS", "TODAYS", "destinations", "translated"]

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


def translated(
    tables: Mapping[str, Any],
    known: Collection[str],
    given: Mapping[str, Any] = MappingProxyType({}),
    *,
    yaml: bool = False,
    is_older: bool = True,
) -> File:
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
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    problems += [(key, "is given twice, once in quotes") for key in twice]
    file = File(dict(pairs), layout, dict(pairs), mistakes=[(*each, ()) for each in problems], given=given)
    leaves = set(known) - {key.rpartition(".")[0] for key in known}
    steps = [[row for row in rows if is_older or row.old not in leaves] for rows in STEPS[layout]]
    for rows in steps:
        file.step(rows)
    file.report_unknown_keys([row for rows in steps for row in rows], known)
    unset = [key for key, value in file.values.items() if value is None and _may_be_null(key, file, known)]
    for key in {*unset, *given}:
        file.values.pop(key, None)
        file.sources.pop(key, None)
    file.values |= given
    file.imply(_implied(layout, file.values))
    if is_older:
        file.leave(_without_effect(file.values, given))
    file.values = dict(dotted(file.tables))
    file.sources = {key: file.sources[key] for key in file.values if key in file.sources}
    return file


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


def _without_effect(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    """Keys without effect given the others; older layouts allowed them, unlike today's."""
    defaults = dict(dotted(dataclasses.asdict(schema.Experiment())))
    merged = defaults | {key: value for key, value in values.items() if key in defaults}
    reasons = without_effect(_namespace(nested(merged)))  # type: ignore[arg-type]
    if merged["model.conditioning.type"] == "none":
        why = "guidance needs a condition, and this model has none"
        reasons |= {key: why for key in _GUIDANCE if values.get(key) != 1}
    if (steps := values.get("training.max_steps")) is not None and "training.max_steps" not in given:
        reasons["training.epochs"] = f"has no effect, because training.max_steps = {steps} decides"
    return reasons | REMOVED


def _namespace(tables: Mapping[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(
        **{key: _namespace(value) if isinstance(value, dict) else value for key, value in tables.items()}
    )
