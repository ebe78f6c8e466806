"""Which folders of a run are its checkpoints: those named `checkpoint-<step>` with a manifest of that step."""

from __future__ import annotations

from pathlib import Path

from signal_diffusion.checkpoints.manifest import step_of
from signal_diffusion.errors import UserError

__all__ = ["PREFIX", "is_own", "is_step", "list_checkpoints", "named_step", "numbered"]

PREFIX = "checkpoint-"


def list_checkpoints(parent: Path) -> list[Path]:
    """The checkpoints that runs wrote into `parent`, complete or damaged, sorted by step.

    Left out is what a user made: links, and folders without a manifest or with the manifest of another step.
    """
    return [checkpoint for checkpoint in numbered(parent) if is_own(checkpoint)]


def numbered(parent: Path) -> list[Path]:
    """What is named like a checkpoint in `parent`, sorted by step, without links: they may lead to another run."""
    named = [path for path in parent.glob(f"{PREFIX}*") if is_step(path.name.removeprefix(PREFIX))]
    return sorted((path for path in named if not path.is_symlink()), key=named_step)


def is_own(path: Path) -> bool:
    """Whether a folder is a checkpoint as it was written here, whatever the state of its other files."""
    if path.is_symlink():
        return False
    try:
        return step_of(path) == named_step(path)
    except UserError:
        return False


def is_step(text: str) -> bool:
    """Whether a text is a step as it is written in names: digits without leading zeros."""
    return text.isascii() and text.isdigit() and str(int(text)) == text


def named_step(checkpoint: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(checkpoint.name.removeprefix(PREFIX))
