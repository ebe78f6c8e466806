"""Options that are lists with commas."""

from __future__ import annotations

from collections.abc import Callable

from signal_diffusion.errors import UserError

__all__ = ["names_in", "numbers_in"]


def names_in(text: str) -> list[str]:
    """The names in a list with commas."""
    return [name.strip() for name in text.split(",")]


def numbers_in(
    option: str, text: str, expected: str, accepts: Callable[[float], bool] = lambda number: True
) -> list[float]:
    """The numbers in a list with commas, each once; a `UserError` with what is `expected` unless all are accepted."""
    try:
        found = [float(name) for name in names_in(text)]
    except ValueError:
        found = []
    if not found or not all(map(accepts, found)):
        raise UserError(f"{option} {text}: expected {expected}")
    return list(dict.fromkeys(found))
