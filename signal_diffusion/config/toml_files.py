"""Reads TOML, the format of experiment files."""

from __future__ import annotations

import re
import tomllib
from typing import Any

__all__ = ["read_toml"]

MAX_PARTS = 64
"""Most parts of a dotted key. Python's parser takes quadratic time: 30 s for a key of 100,000 parts."""

_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_TOO_LONG = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_PARTS}}}")


def read_toml(text: str) -> dict[str, Any]:
    """Parse a TOML text into tables.

    Raises
    ------
    ValueError, RecursionError
        If the text is not TOML, or has a key of many parts.
    """
    if found := _TOO_LONG.search(text):
        raise ValueError(f"a key of more than {MAX_PARTS} parts, {found[0][:20]}…")
    return tomllib.loads(text)
