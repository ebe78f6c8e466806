"""What a value of an older layout is in today's, where it is not the same under another name.

A conversion takes the value and all that the file says, since what some values mean hangs on others. It never fails on
a value of a wrong type: that goes on to today's key, whose check says what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

__all__ = [
    "HERE",
    "Convert",
    "Expectation",
    "MistakeError",
    "Outcome",
    "Written",
    "anyway",
    "expected",
    "ignored",
    "in_epochs",
    "inside",
    "is_number",
    "named",
    "null_is",
    "positive",
]

HERE = ""


class MistakeError(ValueError):
    """A value that has no meaning in the older layout either, or none that today's can express."""


@dataclass(frozen=True)
class Expectation:
    """A size that an older layout says and today's takes from the dataset."""

    key: str
    """The older key."""
    quantity: str
    """`size`, `channels`, `electrodes` or `samples`."""
    value: Any


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What becomes of an older key."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """By today's key; `HERE` is the first that the row of the table names."""
    left: str = ""
    """Why it, or what of it is not in `values`, is left behind."""
    expected: tuple[str, Any] | None = None
    """What the dataset has to be like: `Expectation.quantity` and its value."""


@dataclass(frozen=True)
class Written:
    """What a file says, before anything is converted, and the overrides that win over it."""

    tables: Mapping[str, Any]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """In today's layout."""

    def __call__(self, *keys: str, default: Any = None) -> Any:
        """The value of the first of these dotted keys that has one: of the overrides, else of the file."""
        for tables in (self.chosen, self.tables):
            for key in keys:
                value: Any = tables
                for part in key.split("."):
                    value = value.get(part) if isinstance(value, Mapping) else None
                if value is not None:
                    return value
        return default

    @property
    def file(self) -> Written:
        """What the file says alone."""
        return Written(self.tables)

    @property
    def overrides(self) -> Written:
        """What the overrides say alone."""
        return Written(self.chosen)


Convert = Callable[[Any, Written], Outcome]


def named(names: Mapping[str, str], *, other: bool = False) -> Convert:
    """Another name for each value, in any case; with `other`, those that are not listed are names too."""

    def convert(value: Any, written: Written) -> Outcome:
        name = value.lower() if isinstance(value, str) else value
        if isinstance(name, str) and name in names:
            return Outcome(values={HERE: names[name]})
        if other:
            return Outcome(values={HERE: name})
        raise MistakeError(f"expected one of {', '.join(map(repr, names))}, found {value!r}")

    return convert


def in_epochs(unit: str) -> Convert:
    """A number of epochs, and today's key that says so."""
    return lambda value, written: Outcome() if value is None else Outcome(values={HERE: value, unit: "epochs"})


def null_is(default: Any) -> Convert:
    """The same value, or another for null."""
    return lambda value, written: Outcome(values={HERE: default if value is None else value})


def ignored(reason: str, only: str = "") -> Convert:
    """Nothing; a value other than `only` is a mistake, where there is one."""

    def convert(value: Any, written: Written) -> Outcome:
        if only and value != only:
            raise MistakeError(f"expected {only!r}, found {value!r}")
        return Outcome(left=reason)

    return convert


def anyway(only: Any, reason: str) -> Convert:
    """Nothing, since what happens today is this value; others have no counterpart."""
    return lambda value, written: Outcome(left=reason if value == only else f"has no counterpart: {reason}")


def positive(otherwise: str) -> Convert:
    """The same value, but for 0 and negative ones, which mean that there is none."""
    return lambda value, written: (
        Outcome(left=otherwise) if is_number(value) and value <= 0 else Outcome(values={HERE: value})
    )


def expected(quantity: str) -> Convert:
    """What the dataset's card has to say; in a latent space, a model's size follows from the autoencoder."""

    def convert(value: Any, written: Written) -> Outcome:
        if value is None:
            return Outcome()
        latent = written("model.latent_space", "model.extras.latent_space", "model.autoencoder.enabled", default=False)
        if latent and quantity in ("model's size", "channels"):
            return Outcome(left="follows from the autoencoder")
        return Outcome(expected=(quantity.removeprefix("model's "), value))

    return convert


def inside(value: Any, base: Any) -> str | None:
    """A path below another, relative to that; None where it is not below, or one is no path."""
    if not (isinstance(value, str) and value and isinstance(base, str) and base):
        return None
    try:
        return PurePosixPath(value).relative_to(PurePosixPath(base)).as_posix()
    except ValueError:
        return None


def is_number(value: Any) -> bool:
    """Whether a value is a number, and not true or false."""
    return isinstance(value, int | float) and not isinstance(value, bool)
