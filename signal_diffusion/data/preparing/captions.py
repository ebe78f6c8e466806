"""Captions from the attributes of an example, by a template.

    an EEG spectrogram of a(n)[ {health}][ {age} year old][ {gender}] subject[, {label}]

A part in brackets is left out if one of its values is missing, and `a(n)` becomes "a" or "an", as the next word needs:
"an EEG spectrogram of a healthy 73 year old female subject, rest", "… of an 18 year old subject".
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Mapping
from typing import Any

from signal_diffusion.errors import UserError

__all__ = ["caption_of", "check_template", "default_template", "values_of"]

_PART = re.compile(r"\[([^\[\]]*)\]")
_ARTICLE = re.compile(r"\b([Aa])\(n\)(?=\s+(\S+))")
_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
_VOWEL_SOUND = re.compile(r"[aeiou]|8|1[18](?!\d)", re.IGNORECASE)


def default_template(column: str) -> str:
    """Default template for images (column `image`) or signals (`signal`)."""
    what = "spectrogram" if column == "image" else "recording"
    return f"an EEG {what} of a(n)[ {{health}}][ {{age}} year old][ {{gender}}] subject[, {{label}}]"


def check_template(template: str, names: Collection[str]) -> None:
    """Raise a `UserError` if a template is malformed or names an unknown column."""
    try:
        found = _names(template)
    except ValueError as error:
        raise UserError(
            f"captions: {template!r} is not a valid template ({error}); write {{name}} for a value"
        ) from error
    if unknown := found - set(names):
        raise UserError(f"captions: unknown name {', '.join(sorted(unknown))}; use only {', '.join(sorted(names))}")
    if re.search(r"[\[\]]", _PART.sub("", template)):
        raise UserError(f"captions: {template!r} has unbalanced or nested brackets; close each one before the next")


def caption_of(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template with the known values; unknown ones are None or absent."""
    known = {name: _format(value) for name, value in values.items() if value is not None}

    def part(match: re.Match[str]) -> str:
        return match[1] if _names(match[1]) <= known.keys() else ""

    text = _PART.sub(part, template)
    text = " ".join(text.format_map(dict.fromkeys(_names(text), "") | known).split())
    return _ARTICLE.sub(lambda match: match[1] + ("n" if _VOWEL_SOUND.match(match[2]) else ""), text)


def values_of(template: str, caption: str, names: Mapping[str, Collection[str]]) -> dict[str, str]:
    """The values that `caption_of` made a caption from, as text; {} if the caption is not of this template.

    `names` are the values of each category, of which captions have no other; all other values are numbers.
    """
    parts = _PART.split(" ".join(template.split()))  # outside and inside of brackets in turn
    patterns, seen = [], set[str]()
    for number, part in enumerate(parts):
        pattern = _pattern(part, names, seen)
        patterns.append(f"(?:{pattern})?" if number % 2 else pattern)
    match = re.fullmatch("".join(patterns), " ".join(caption.split()))
    return {name: value for name, value in match.groupdict().items() if value} if match else {}


def _pattern(part: str, names: Mapping[str, Collection[str]], seen: set[str]) -> str:
    """A regular expression of a template without brackets; a value that comes again is the same."""
    found = ""
    for literal, name, _, _ in string.Formatter().parse(part):
        literal = re.sub(r"\b([Aa])\\\(n\\\)", r"\1n?", re.escape(literal))
        found += literal.replace(r"\ ", r"\s*")  # captions have no spaces where values are missing
        if name is not None:
            options = sorted(map(re.escape, names.get(name, ())), key=len, reverse=True)
            found += f"(?P={name})" if name in seen else f"(?P<{name}>{'|'.join(options) or _NUMBER})?"
            seen.add(name)
    return found


def _names(template: str) -> set[str]:
    fields = [(name, spec, how) for _, name, spec, how in string.Formatter().parse(template) if name is not None]
    if any(spec or how for _, spec, how in fields):
        raise ValueError("formats such as {age:.0f} are not supported")
    return {name for name, _, _ in fields}


def _format(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
