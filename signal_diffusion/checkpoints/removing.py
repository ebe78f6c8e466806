"""Remove checkpoints: those beyond a limit, later ones than the one to resume from, and unfinished ones."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from signal_diffusion.checkpoints.listing import PREFIX, is_step, list_checkpoints, named_step
from signal_diffusion.checkpoints.manifest import FORMAT, format_of

__all__ = ["UNFINISHED", "prune", "remove_later", "remove_unfinished", "retire"]

UNFINISHED, RETIRED = ".unfinished-", "retired-"


def prune(parent: Path, limit: int | None, *, newest: int, keep: Collection[int | None]) -> list[str]:
    """Remove all of `list_checkpoints` except the last `limit` (None = keep all) and those of the steps `keep`.

    Those after step `newest`, which was just written or resumed from, are removed too, and their names returned: see
    `remove_later`. Those of a newer version stay.
    """
    later = remove_later(parent, newest)
    for checkpoint in _removable(parent)[: -limit if limit else 0]:
        if named_step(checkpoint) not in keep:
            retire(checkpoint)
    remove_unfinished(parent)
    return later


def remove_later(parent: Path, step: int) -> list[str]:
    """Remove incomplete checkpoints and those after `step`, from which a run resumes; returns the names of the latter.

    If they stayed until the run writes its first checkpoint, and the run were killed before, it would resume from them.
    """
    later = [checkpoint for checkpoint in _removable(parent) if named_step(checkpoint) > step]
    for checkpoint in later:
        retire(checkpoint)
    remove_unfinished(parent)
    return [checkpoint.name for checkpoint in later]


def remove_unfinished(parent: Path) -> None:
    """Remove what a killed run left partly written or partly removed."""
    for path in parent.glob(f"{UNFINISHED}{PREFIX}*"):
        if is_step(path.name.removeprefix(f"{UNFINISHED}{PREFIX}").removeprefix(RETIRED)):
            shutil.rmtree(path, ignore_errors=True)


def retire(checkpoint: Path) -> None:
    """Rename a checkpoint before its files are deleted, so that a kill cannot leave half a checkpoint."""
    retired = checkpoint.with_name(f"{UNFINISHED}{PREFIX}{RETIRED}{checkpoint.name.removeprefix(PREFIX)}")
    shutil.rmtree(retired, ignore_errors=True)
    checkpoint.rename(retired)


def _removable(parent: Path) -> list[Path]:
    """`list_checkpoints` without those of another format: this version cannot tell whether a newer one is damaged."""
    return [checkpoint for checkpoint in list_checkpoints(parent) if format_of(checkpoint) == FORMAT]
