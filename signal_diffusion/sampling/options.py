"""What a caller says, by options of a command or arguments in Python, as keys of an experiment and as conditions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from signal_diffusion.errors import UserError

__all__ = ["asked", "named_in_errors", "override", "whole_number"]

_TABLE = "generation.sampling"
_OVERRIDDEN = re.compile(r"^--set: \[generation\.sampling\] (\w+)")


@contextmanager
def named_in_errors(names: Mapping[str, str], others: str = "--set") -> Iterator[None]:
    """Blame mistakes in keys of [generation.sampling] on what their values came by, such as "--steps", not on "--set".

    `others` is what all other overrides came by.
    """
    try:
        yield
    except UserError as error:
        lines = (_OVERRIDDEN.sub(lambda found: names.get(found[1], found[0]), line) for line in error.lines)
        error.lines = tuple(re.sub(r"^--set\b", others, line) for line in lines)
        error.args = ("\n".join(error.lines),)
        raise


def override(key: str, value: Any) -> str:
    """A key of [generation.sampling] as the command line gives it; what JSON writes of a value, TOML reads."""
    try:
        text = json.dumps(value, default=lambda each: each.tolist())  # of numpy
    except (TypeError, AttributeError, ValueError):
        raise UserError(f"{key}: {value!r}; expected text, a number, true or false, or a list of numbers") from None
    return f"{_TABLE}.{key}={text}"


def whole_number(name: str, value: object) -> int:
    """A number of at least 1, of Python or of NumPy; a `UserError` that names the argument for what is none."""
    try:
        number = 0 if isinstance(value, bool) else value.__index__()  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        number = 0
    if number < 1:
        raise UserError(f"{name}: {value!r}; expected a whole number of at least 1")
    return number


def asked(attributes: Mapping[str, str | float] | None, *, prefix: str = "", **options: str | None) -> dict[str, str]:
    """What samples are asked to be, by attribute; blank options ask for nothing.

    `prefix` is that of the options' names, such as "--".

    Raises
    ------
    UserError
        For what is no text, number or mapping, or asked for twice.
    """
    if attributes is not None and not isinstance(attributes, Mapping):
        raise UserError(f'attributes: {attributes!r}; expected a mapping, such as {{"gender": "female", "age": 60}}')
    found = {}
    for name, value in (attributes or {}).items():
        if not isinstance(name, str) or isinstance(value, bool) or not (text := _text(value)):
            raise UserError(f"attributes: {name!r} is {value!r}; expected names with text or numbers; leave others out")
        found[name.strip()] = text
    for name, option in options.items():
        if option is not None and not isinstance(option, str):
            raise UserError(f"{name}: {option!r}; expected text")
        if option is None or not option.strip():
            continue
        if name in found:
            raise UserError(f"{prefix}{name} {option}: {prefix}attributes has a {name} too; expected one of the two")
        found[name] = option.strip()
    return found


def _text(value: object) -> str:
    """A text without the space around it, or a number, of NumPy's too; "" for what is neither."""
    if isinstance(value, str):
        return value.strip()
    number = value.item() if getattr(value, "shape", None) == () else value  # type: ignore[attr-defined]
    return str(number) if isinstance(number, int | float) else ""
