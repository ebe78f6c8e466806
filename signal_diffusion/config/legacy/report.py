"""What people are told of a file of an older layout: every key that is not where it was."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from signal_diffusion.config.legacy.plain import shown
from signal_diffusion.config.legacy.rows import TODAY
from signal_diffusion.config.legacy.translation import Move, Translation

__all__ = ["summary", "unwarned", "warn_of_older_keys"]

logger = logging.getLogger(__name__)


def warn_of_older_keys(path: Path, translation: Translation) -> None:
    """Say what became of a file's keys, if any is older: once, by one process, however often it is read."""
    told = summary(translation)
    if not told or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    layout = "keys of older layouts" if translation.layout == TODAY else f"an older layout ({translation.layout})"
    rewrite = f"scripts/migrate_config_v1_to_v2.py --input {path} --output NEW.toml"
    about = f"{layout}, read as today's; `uv run python {rewrite}` rewrites it"
    if len(told) == sum(left.reason.startswith("--set") for left in translation.left):
        about = "not read of it:"
    _warn("\n".join([f"{path}: {about}", *told]))


@contextmanager
def unwarned() -> Iterator[None]:
    """Read older files without a word, where all is told otherwise."""
    logger.disabled, before = True, logger.disabled
    try:
        yield
    finally:
        logger.disabled = before


def summary(translation: Translation) -> list[str]:
    """What was moved, implied, derived and left behind, for people: a line each."""
    lines = [f"  {move.old} → {_told(move)}" for move in translation.moved if move.new]
    lines += [
        f"  {key} = {shown(value)}, as the {translation.layout} has it unsaid"
        for key, value in translation.implied.items()
    ]
    lines += [f"  {each.key} = {shown(each.value)}: derived from the dataset" for each in translation.expected]
    return lines + [f"  {each.old} = {shown(each.value)}: left behind: {each.reason}" for each in translation.left]


def _told(move: Move) -> str:
    if list(move.new.values()) == [move.value]:
        return next(iter(move.new))
    return ", ".join(f"{key} = {shown(value)}" for key, value in move.new.items())


@cache
def _warn(text: str) -> None:
    logger.warning("%s", text)
