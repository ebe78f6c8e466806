"""The part of the units that one job of an array does: `--shard 3/64`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from signal_diffusion.errors import UserError

__all__ = ["Shard"]

Unit = TypeVar("Unit")


@dataclass(frozen=True)
class Shard:
    """A part of all units: those whose number, from 1, is `number` modulo `count`."""

    number: int
    """From 1 to `count`."""
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse "3/64"; raises `UserError` if it is not one of so many."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise UserError(f"shard: {text!r}; expected NUMBER/COUNT, from 1/COUNT to COUNT/COUNT, such as 3/64")
        return cls(int(match[1]), int(match[2]))

    def of(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """The units of this part."""
        return units[self.number - 1 :: self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
