"""What a caller says, by options of a command or arguments in Python, as keys of an experiment and as conditions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from signal_diffusion.errors import UserError

__all__ = ["asked", "named_as_arguments", "named_in_errors", "override", "said", "whole_number"]

_TABLE = "generation.sampling"
_OVERRIDDEN = re.compile(r"^--set: \[generation\.sampling\] (\w+)")
_OPTION = re.compile(r"--(label|caption|attributes|like|num|windows|noise|batch-size)(?![\w-])")


@contextmanager
def named_in_errors(names: Mapping[str, str], others: str = "--set") -> Iterator[None]:
    """Blame mistakes in keys of [generation.sampling] on what their values came by, such as "--steps", not on "--set".

    `others` is what all other overrides came by.
    """

    def named(line: str) -> str:
        line = _OVERRIDDEN.sub(lambda found: names.get(found[1], found[0]), line)
        return re.sub(r"^--set\b", others, line)

    with _reworded(named):
        yield


@contextmanager
def named_as_arguments() -> Iterator[None]:
    """Name options as Python's arguments in mistakes that are told in the command's words: "label" for "--label"."""
    with _reworded(lambda line: _OPTION.sub(lambda found: found[1].replace("-", "_"), line)):
        yield


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


def said(option: str, text: object, *, without: str = "") -> str:
    """The text of an option without the space around it; "" where it is not given, or blank where that means something.

    Raises
    ------
    UserError
        For what is no text, or is blank, as an unset variable of a script is, where what comes `without` it is named.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise UserError(f"{option}: {text!r}; expected text")
    if without and not text.strip():
        raise UserError(f"{option}: is blank; leave it out for {without}")
    return text.strip()


def asked(attributes: Mapping[str, str | float] | None, *, label: str | None, caption: str | None) -> dict[str, str]:
    """What samples are asked to be, by attribute; a blank caption is the null.

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
    texts = {"label": said("--label", label, without="any class"), "caption": said("--caption", caption)}
    for name, text in texts.items():
        if text and name in found:
            raise UserError(f"--{name} {text}: --attributes has a {name} too; expected one of the two")
    return found | {name: text for name, text in texts.items() if text}


@contextmanager
def _reworded(change: Callable[[str], str]) -> Iterator[None]:
    """Change every line of a mistake."""
    try:
        yield
    except UserError as error:
        error.lines = tuple(map(change, error.lines))
        error.args = ("\n".join(error.lines),)
        raise


def _text(value: object) -> str:
    """A text without the space around it, or a number, of NumPy's too; "" for what is neither."""
    if isinstance(value, str):
        return value.strip()
    number = value.item() if getattr(value, "shape", None) == () else value  # type: ignore[attr-defined]
    return str(number) if isinstance(number, int | float) else ""
