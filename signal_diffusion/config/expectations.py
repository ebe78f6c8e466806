"""Sizes that a file of an older layout states, and that are taken from the dataset today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Expectation"]


@dataclass(frozen=True)
class Expectation:
    """A size in an older file, which is checked against the dataset."""

    key: str
    """The older key."""
    quantity: str
    """`size`, `channels`, `electrodes` or `samples`."""
    value: Any
