"""The warning about a file in an older layout: what becomes of every key, the most important first."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.legacy.engine import File
from signal_diffusion.config.plain import shown
from signal_diffusion.errors import log_once

__all__ = ["silenced", "summary", "warn_of_older_keys"]

logger = logging.getLogger(__name__)


def warn_of_older_keys(path: Path, translation: File) -> None:
    """Warn about a file of an older layout: once per file, from one process."""
    lines, renamed = summary(translation)
    keys, them = (
        ("1 key has a new name", "it") if len(renamed) == 1 else (f"{len(renamed)} keys have new names", "them")
    )
    if renamed:
        lines.append(f"  {keys}: `signal-diffusion config migrate {shlex.quote(str(path))}` writes {them}")
    log_once(logger, f"{path}: has an older layout ({translation.layout})", *lines)


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress warnings about a file in the block, for callers that print the summary themselves."""
    loggers = logger, *(logging.getLogger(f"signal_diffusion.config.{name}") for name in ("loading", "sources"))
    try:
        for each in loggers:
            each.disabled = True
        yield
    finally:
        for each in loggers:
            each.disabled = False


def summary(translation: File) -> tuple[list[str], list[str]]:
    """A line for each key that changed (lost or implied, to be decided, with another value), and for each new name."""
    written, values = translation.written, dict(dotted(translation.tables))
    lost, implied, decisions, changed, neutral, renamed = (list[str]() for _ in range(6))
    moves = {old: [key for key, sources in translation.sources.items() if old in sources] for old in written}
    for old, keys in moves.items():
        new = {key: values[key] for key in keys}
        if left := translation.left.get(old):
            line = f"  {old} = {shown(written[old])}: {left.reason}{'; now ' if new else ''}{_pairs(new)}"
            (lost if left.is_lost else neutral).append(line)
        elif new and list(map(shown, new.values())) != [shown(written[old])]:
            changed.append(f"  {old} = {shown(written[old])} → {_pairs(new)}")
        elif new and keys != [old]:
            renamed.append(f"  {old} → {keys[0]}")
    for default in translation.implied:
        line = f"  this layout {default.phrase}: {_pairs(default.values)}"
        (decisions if default.needs_decision else implied).append(line)
    neutral += [f"  {each.key} = {shown(each.value)}: checked against the dataset" for each in translation.expected]
    return [*lost, *implied, *decisions, *changed, *neutral], renamed


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {shown(value)}" for key, value in values.items())
