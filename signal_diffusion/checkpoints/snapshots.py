"""EMA snapshots: the averages of post-hoc EMA at the step of each checkpoint. They outlive the checkpoints.

A file `step-<step>-since-<origin>.safetensors` has the averages of the steps from `origin` on. It is complete or
absent, and written before its checkpoint: whatever a kill interrupts, each checkpoint has its snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from signal_diffusion.checkpoints.removing import UNFINISHED
from signal_diffusion.checkpoints.writing import flush
from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError

__all__ = ["FOLDER", "Snapshot", "list_snapshots", "remove_later_snapshots", "write_snapshot"]

FOLDER = "ema-snapshots"
_NAME = re.compile(r"step-(0|[1-9]\d*)-since-(0|[1-9]\d*)\.safetensors", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A file with averages."""

    path: Path
    step: int
    origin: int
    """Step at which averaging began: that of the checkpoint that had no averages to go on with, or 0."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps that are averaged."""
        return self.step - self.origin


def list_snapshots(parent: Path) -> list[Snapshot]:
    """The snapshots of the run whose checkpoints are in `parent`, sorted by step."""
    named = [(path, _NAME.fullmatch(path.name)) for path in (parent / FOLDER).glob("*")]
    found = [Snapshot(path=path, step=int(name[1]), origin=int(name[2])) for path, name in named if name]
    return sorted((each for each in found if each.num_steps > 0), key=lambda each: (each.step, each.origin))


def write_snapshot(parent: Path, step: int, origin: int, write: Callable[[Path], object], *, size: int) -> Path:
    """Write the snapshot of `step`, of about `size` bytes, with the function `write`; replaces one that is there.

    Raises
    ------
    UserError
        If writing fails; other snapshots are untouched.
    """
    final = parent / FOLDER / f"step-{step}-since-{origin}.safetensors"
    unfinished = final.with_name(f"{UNFINISHED}{final.name}")
    kept = "earlier ones are untouched"
    try:
        with writing(final, "the EMA snapshot", needs=size, advice=f"{kept}; free some space and resume"):
            final.parent.mkdir(parents=True, exist_ok=True)
            try:
                write(unfinished)
                flush(unfinished)
                unfinished.rename(final)
            finally:
                unfinished.unlink(missing_ok=True)
            flush(final.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{final}: cannot write the EMA snapshot: {error}; {kept}") from error
    return final


def remove_later_snapshots(parent: Path, step: int) -> None:
    """Remove the snapshots after `step`, from which a run goes on, and what a kill left unfinished.

    The checkpoints after `step` have to be removed before: a run could resume from one that has no snapshot.
    """
    later = [each.path for each in list_snapshots(parent) if each.step > step]
    for path in (*later, *(parent / FOLDER).glob(f"{UNFINISHED}*")):
        path.unlink(missing_ok=True)
