"""Write a checkpoint to a temporary folder, flush it and rename it into place: it is complete or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from safetensors import SafetensorError

from signal_diffusion.checkpoints.listing import PREFIX
from signal_diffusion.checkpoints.manifest import MANIFEST, write_manifest
from signal_diffusion.checkpoints.removing import UNFINISHED, remove_unfinished
from signal_diffusion.checkpoints.setting_aside import make_way
from signal_diffusion.disks import size_of, writing
from signal_diffusion.errors import UserError

__all__ = ["Writer", "flush", "write_checkpoint"]

Writer = Callable[[Path], object]


def write_checkpoint(parent: Path, step: int, writers: Mapping[str, Writer]) -> Path:
    """Write `parent/checkpoint-<step>`; `writers` maps each file name to a function that writes to a given path.

    Raises
    ------
    UserError
        If writing fails; existing checkpoints are untouched.
    """
    final = parent / f"{PREFIX}{step}"
    unfinished = parent / f"{UNFINISHED}{PREFIX}{step}"
    kept = "earlier ones are untouched"
    advice = f"{kept}; free some space and resume"
    try:
        with writing(final, "the checkpoint", needs=size_of(writers), advice=advice), ExitStack() as stack:
            stack.callback(shutil.rmtree, unfinished, ignore_errors=True)
            parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for name, write in writers.items():
                write(unfinished / name)
            write_manifest(unfinished, step, writers)
            for name in (*writers, MANIFEST):
                flush(unfinished / name)
            flush(unfinished)
            make_way(final)  # left over if the run resumed from an earlier step
            unfinished.rename(final)
            flush(parent)
            remove_unfinished(parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{final}: cannot write the checkpoint: {error}; {kept}") from error
    return final


def flush(path: Path) -> None:
    """Wait until the disk has what was written to a file, or which files a folder has."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
