"""The warning about a file in an older layout: every key that was moved, implied or dropped."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from signal_diffusion.config.legacy.rows import CURRENT
from signal_diffusion.config.legacy.translation import Move, Translation
from signal_diffusion.config.plain import shown
from signal_diffusion.errors import log_once

__all__ = ["silenced", "summary", "warn_of_older_keys"]

logger = logging.getLogger(__name__)


def warn_of_older_keys(path: Path, translation: Translation) -> None:
    """Warn about the keys of older layouts in a file: once per file, from one process."""
    lines = summary(translation)
    if not lines:
        return
    layout = (
        "has keys of older layouts" if translation.layout == CURRENT else f"has an older layout ({translation.layout})"
    )
    script = "scripts/migrate_config_v1_to_v2.py"
    command = shlex.join(["uv", "run", "python", script, "--input", str(path), "--output", "NEW.toml"])
    about = f"{layout}; to rewrite it, run `{command}`"
    if len(lines) == sum(each.reason.startswith("--set") for each in translation.dropped):
        about = "ignored:"
    log_once(logger, f"{path}: {about}", *lines)


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress this warning in the block, for callers that print the summary themselves."""
    logger.disabled, before = True, logger.disabled
    try:
        yield
    finally:
        logger.disabled = before


def summary(translation: Translation) -> list[str]:
    """A line for each key that was moved, implied, derived or dropped; empty if there is none."""
    lines = [f"  {move.old} → {_destination(move)}" for move in translation.moved if move.new]
    lines += [
        f"  {key} = {shown(value)}: implied by the {translation.layout}" for key, value in translation.implied.items()
    ]
    lines += [f"  {each.key} = {shown(each.value)}: derived from the dataset" for each in translation.expected]
    return lines + [f"  {each.old} = {shown(each.value)}: dropped: {each.reason}" for each in translation.dropped]


def _destination(move: Move) -> str:
    if list(move.new.values()) == [move.value]:
        return next(iter(move.new))
    return ", ".join(f"{key} = {shown(value)}" for key, value in move.new.items())
