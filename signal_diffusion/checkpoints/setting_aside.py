"""Give another name to what must not be removed: checkpoints of other runs, and what a user made."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from signal_diffusion.checkpoints.listing import is_own, list_checkpoints
from signal_diffusion.checkpoints.manifest import FORMAT, format_of
from signal_diffusion.checkpoints.removing import retire
from signal_diffusion.errors import UserError

__all__ = ["make_way", "set_aside"]


def set_aside(parent: Path, check: Callable[[Path], None]) -> list[str]:
    """Rename the checkpoints in `parent` for which `check` raises a `UserError`; returns a line for each."""
    lines = []
    for checkpoint in list_checkpoints(parent):
        try:
            check(checkpoint)
        except UserError as error:
            lines.append(f"{error.lines[0]}; kept as {_keep(checkpoint).name}")
    return lines


def make_way(path: Path) -> None:
    """Remove an own checkpoint at `path`; give anything else another name."""
    if is_own(path) and format_of(path) == FORMAT:
        retire(path)
    elif os.path.lexists(path):
        _keep(path)


def _keep(path: Path) -> Path:
    """Give what a user put here a name that is free and not that of a checkpoint."""
    names = (path.with_name(f"kept-{path.name}{'-' * bool(number)}{number or ''}") for number in itertools.count())
    return path.rename(next(name for name in names if not os.path.lexists(name)))
