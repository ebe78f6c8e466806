"""Conversions of values from an older layout to the current one, where more than the name changed.

A conversion takes the value and the whole file, since the meaning of some values depends on others. It never fails on
a value of a wrong type: it passes the value on to the new key, whose own check reports what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

__all__ = [
    "NEW_KEY",
    "ConversionError",
    "Convert",
    "Outcome",
    "Written",
    "always",
    "expected",
    "ignored",
    "in_epochs",
    "inside",
    "is_number",
    "named",
    "null_is",
    "positive",
]

NEW_KEY = ""


class ConversionError(ValueError):
    """The value is invalid in the older layout, or the current layout cannot express it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of converting an older key."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """New values by current key; `NEW_KEY` stands for the first key in the row's `new`."""
    dropped: str = ""
    """Why the older value, or the part of it that is not in `values`, is dropped; "" = it is not."""
    expected: tuple[str, Any] | None = None
    """A size that the dataset must have: `Expectation.quantity` and value."""


@dataclass(frozen=True)
class Written:
    """The tables of a file before any conversion, and the overrides, which have priority."""

    tables: Mapping[str, Any]
    override_tables: Mapping[str, Any] = field(default_factory=dict)
    """In the current layout."""

    def __call__(self, *keys: str, default: Any = None) -> Any:
        """The first value that is not None for these dotted keys: in the overrides, else in the file."""
        for tables in (self.override_tables, self.tables):
            for key in keys:
                value: Any = tables
                for part in key.split("."):
                    value = value.get(part) if isinstance(value, Mapping) else None
                if value is not None:
                    return value
        return default

    @property
    def file(self) -> Written:
        """Only the values of the file."""
        return Written(self.tables)

    @property
    def overrides(self) -> Written:
        """Only the values of the overrides."""
        return Written(self.override_tables)


Convert = Callable[[Any, Written], Outcome]


def named(names: Mapping[str, str], *, other: bool = False) -> Convert:
    """Rename values, ignoring case; values that are not listed are errors, or with `other` kept (in lower case)."""

    def convert(value: Any, written: Written) -> Outcome:
        name = value.lower() if isinstance(value, str) else value
        if isinstance(name, str) and name in names:
            return Outcome(values={NEW_KEY: names[name]})
        if other:
            return Outcome(values={NEW_KEY: name})
        raise ConversionError(f"expected one of {', '.join(map(repr, names))}, found {value!r}")

    return convert


def in_epochs(unit: str) -> Convert:
    """Keep the value, and set the key `unit` to "epochs"."""
    return lambda value, written: Outcome() if value is None else Outcome(values={NEW_KEY: value, unit: "epochs"})


def null_is(default: Any) -> Convert:
    """Keep the value, but replace null."""
    return lambda value, written: Outcome(values={NEW_KEY: default if value is None else value})


def ignored(reason: str, only: str = "") -> Convert:
    """Drop the value; if `only` is given, any other value is an error."""

    def convert(value: Any, written: Written) -> Outcome:
        if only and value != only:
            raise ConversionError(f"expected {only!r}, found {value!r}")
        return Outcome(dropped=reason)

    return convert


def always(only: Any, reason: str) -> Convert:
    """Drop the value, since the code now always behaves as with `only`; other values are no longer supported."""
    return lambda value, written: Outcome(dropped=reason if value == only else f"no longer supported: {reason}")


def positive(otherwise: str) -> Convert:
    """Keep positive values, and drop 0 and negative ones with the reason `otherwise`."""
    return lambda value, written: (
        Outcome(dropped=otherwise) if is_number(value) and value <= 0 else Outcome(values={NEW_KEY: value})
    )


def expected(quantity: str) -> Convert:
    """Check the value against the dataset's card, but drop a latent model's size, which the autoencoder determines."""

    def convert(value: Any, written: Written) -> Outcome:
        if value is None:
            return Outcome()
        latent = written("model.latent_space", "model.extras.latent_space", "model.autoencoder.enabled", default=False)
        if latent and quantity in ("model's size", "channels"):
            return Outcome(dropped="determined by the autoencoder")
        return Outcome(expected=(quantity.removeprefix("model's "), value))

    return convert


def inside(value: Any, base: Any) -> str | None:
    """`value` relative to the folder `base`; None if it is not inside, or if one of them is not a path."""
    if not (isinstance(value, str) and value and isinstance(base, str) and base):
        return None
    try:
        return PurePosixPath(value).relative_to(PurePosixPath(base)).as_posix()
    except ValueError:
        return None


def is_number(value: Any) -> bool:
    """Whether a value is a number and not a boolean."""
    return isinstance(value, int | float) and not isinstance(value, bool)
