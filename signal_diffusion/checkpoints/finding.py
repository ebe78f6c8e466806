"""Find the checkpoint that a name means: `latest`, one in a run, or a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from signal_diffusion.checkpoints.listing import PREFIX, numbered
from signal_diffusion.checkpoints.verifying import verify
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import weights_file_problem

__all__ = ["find_checkpoint"]


def find_checkpoint(
    parent: Path, name: str, warn: Callable[[str], None], check: Callable[[Path], None] = lambda checkpoint: None
) -> Path:
    """The checkpoint that `name` means: "latest" (the newest good one in `parent`), one there, or a folder.

    `check` raises a `UserError` for a complete checkpoint of another run; "latest" then means an earlier one, or, if
    all are of other runs, the newest.

    Raises
    ------
    UserError
        If there is no such checkpoint, or it is incomplete.
    """
    if name != "latest":
        folder = Path(name)
        if not folder.is_dir() and (problem := weights_file_problem(name)):
            raise UserError(f"{name}: {problem}")
        if len(folder.parts) == 1 and not folder.is_dir():
            folder = parent / name
        verify(folder)
        return folder
    for path in sorted({*parent.glob(f"{PREFIX}*")} - {*numbered(parent)}):
        reason = "is a link" if path.is_symlink() else f"is not named {PREFIX}<step>"
        warn(f"{path}: {reason}, so it is left alone")
    others: dict[Path, str] = {}
    for checkpoint in reversed(numbered(parent)):
        try:
            verify(checkpoint)
        except UserError as error:
            warn(f"{error}; trying an earlier one")
            continue
        try:
            check(checkpoint)
        except UserError as error:
            others[checkpoint] = error.lines[0]
            continue
        for line in others.values():
            warn(f"{line}; trying an earlier one")
        return checkpoint
    if others:
        return next(iter(others))
    raise UserError(f"{parent}: no complete checkpoint to resume from; start without resuming")
