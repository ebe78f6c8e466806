"""The values of `--set table.key=value`."""

from __future__ import annotations

from typing import Any

from signal_diffusion.config.keys import destinations_of, is_todays, known_keys
from signal_diffusion.config.plain import MAX_DEPTH, is_plain
from signal_diffusion.config.removed import REMOVED
from signal_diffusion.config.toml_files import read_toml
from signal_diffusion.errors import UserError

__all__ = ["override", "parsed_override", "unit_of"]


def parsed_override(override: str) -> tuple[str, Any]:
    """The dotted key and the value of `table.key=value`."""
    key, equals, text = override.partition("=")
    location = tuple(part.strip() for part in key.split("."))
    if not equals or not all(location):
        raise UserError(f"--set {override}: expected table.key=value, such as training.max_steps=100")
    if any("\ud800" <= letter <= "\udfff" for letter in override) or len(location) > MAX_DEPTH:
        raise UserError(f"--set {override!r}: expected UTF-8 text, and a key in at most {MAX_DEPTH - 1} nested tables")
    name = ".".join(location)
    if not is_todays(name) and (names := destinations_of(name)):
        raise UserError(f"--set {override}: is a key of an older layout; use {names[0]}")
    if name in REMOVED:
        raise UserError(f"--set {override}: was removed: {REMOVED[name]}; leave it out")
    try:
        value = read_toml(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        value = text
    return name, value if is_plain(value) else text  # a date, say: then the type check reports it as it was typed


def override(tables: dict[str, Any], key: str, value: Any) -> Any:
    """Set a key of the tables of a file to the value of --set, and return the value before, or None."""
    *above, last = key.split(".")
    table = tables
    for part in above:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {key}: {part} is a value, not a table")
    before, table[last] = table.get(last), value
    return before


def unit_of(key: str) -> str:
    """The key of the unit of an interval, which --set counts in steps; "" if there is none."""
    unit = f"{key.removesuffix('.interval')}.unit"
    return unit if key.endswith(".interval") and unit in known_keys() else ""
