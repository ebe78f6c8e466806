"""Convert command-line options and Python arguments to keys of an experiment and to conditions."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from signal_diffusion.errors import UserError

__all__ = [
    "check_not_long",
    "named_as_arguments",
    "named_in_errors",
    "option_text",
    "override",
    "requested_values",
    "whole_number",
]

_TABLE = "generation.sampling"
_OVERRIDDEN = re.compile(r"^--set: \[generation\.sampling\] (\w+)")
_OPTION = re.compile(
    r"--(label|caption|attributes|like|num|windows|noise|electrodes|batch-size|steps"
    r"|guidance-scale|bad|bads-from-file|add|gaps?|extend|draws|to|units|duration|timeline)(?![\w-])"
)


@contextmanager
def named_in_errors(names: Mapping[str, str], others: str = "--set") -> Iterator[None]:
    """Name the option that set a key of [generation.sampling], such as "--steps", in errors about it, not "--set".

    `others` is the name for all other overrides.
    """

    def named(line: str) -> str:
        line = _OVERRIDDEN.sub(lambda found: names.get(found[1], found[0]), line)
        return re.sub(r"^--set\b", others, line)

    with _reworded(named):
        yield


@contextmanager
def named_as_arguments() -> Iterator[None]:
    """Write options as Python arguments in errors: "label" for "--label"."""
    with _reworded(lambda line: _OPTION.sub(lambda found: found[1].replace("-", "_"), line)):
        yield


def override(key: str, value: Any) -> str:
    """An override of a key of [generation.sampling], as on the command line; TOML can read the JSON of these values."""
    try:
        text = json.dumps(value, default=lambda each: each.tolist())  # for NumPy's types
    except (TypeError, AttributeError, ValueError):
        raise UserError(f"{key}: {value!r}; expected text, a number, true or false, or a list of numbers") from None
    return f"{_TABLE}.{key}={text}"


def whole_number(name: str, value: object, most: int) -> int:
    """A whole number from 1 to `most`, from Python or NumPy; a `UserError` that names the argument if it is not one."""
    try:
        number = 0 if isinstance(value, bool) else value.__index__()  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        number = 0
    if not 1 <= number <= most:
        raise UserError(f"{name}: {reprlib.repr(value)}; expected a whole number from 1 to {most}")
    return number


def option_text(option: str, text: object, *, without: str = "") -> str:
    """The stripped text of an option; "" if it is not given.

    Raises
    ------
    UserError
        If it is not text; or if it is blank (as from an unset shell variable) and `without` is given, which says what
        leaving the option out means.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"{option}: {text!r}; expected text")
    if without and not text.strip():
        raise UserError(f"{option}: is blank; leave it out for {without}")
    return text.strip()


def check_not_long(others: Mapping[str, object]) -> None:
    """Raise a `UserError` if one of the options is given, which recordings do not have."""
    for option, value in others.items():
        if value is not None:
            raise UserError(f"{option} {value}: is for single windows, not for --duration or --timeline; leave it out")


def requested_values(
    attributes: Mapping[str, str | float] | None, *, label: str | None, caption: str | None
) -> dict[str, str]:
    """The requested values, by attribute; a blank caption is left open.

    Raises
    ------
    UserError
        If a value is not text or a number, `attributes` is not a mapping, or an attribute is requested twice.
    """
    if attributes is not None and not isinstance(attributes, Mapping):
        raise UserError(f'attributes: {attributes!r}; expected a mapping, such as {{"gender": "female", "age": 60}}')
    found = {}
    for name, value in (attributes or {}).items():
        if not isinstance(name, str) or isinstance(value, bool) or not (text := _text(value)):
            raise UserError(f"attributes: {name!r} is {value!r}; expected text or a number; leave it out for any value")
        found[name.strip()] = text
    texts = {"label": option_text("--label", label, without="any class"), "caption": option_text("--caption", caption)}
    for name, text in texts.items():
        if text and name in found:
            raise UserError(f"--{name} {text}: --attributes sets {name} too; use only one of the two")
    return found | {name: text for name, text in texts.items() if text}


@contextmanager
def _reworded(change: Callable[[str], str]) -> Iterator[None]:
    """Apply `change` to every line of a `UserError`."""
    try:
        yield
    except UserError as error:
        error.lines = tuple(map(change, error.lines))
        error.args = ("\n".join(error.lines),)
        raise


def _text(value: object) -> str:
    """Stripped text, or a number (also of NumPy) as text; "" for anything else."""
    if isinstance(value, str):
        return value.strip()
    number = value.item() if getattr(value, "shape", None) == () else value  # type: ignore[attr-defined]
    return str(number) if isinstance(number, int | float) else ""
