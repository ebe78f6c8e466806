"""A folder that appears whole or not at all: written beside its place, flushed, and renamed into it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from signal_diffusion.errors import UserError

__all__ = ["published"]


@contextmanager
def published(output: Path) -> Iterator[Path]:
    """Give a folder to write to, and put it in the place of `output` when all went well.

    What lies at `output` stays until then, and for good where something goes wrong. Raises `UserError` where
    another process is at it.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (output.with_name(f".{output.name}.{what}") for what in ("partial", "old"))
    lock = filelock.FileLock(output.with_name(f".{output.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{output}: another process is writing it; wait for it or choose another --output") from None
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _flush(partial)
        shutil.rmtree(old, ignore_errors=True)
        if output.exists():
            output.rename(old)
        partial.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _flush(root: Path) -> None:
    """Bring files to the disk before the rename that says they are there."""
    for path in [*root.rglob("*"), root]:
        if path.is_file() or os.name == "posix":  # Windows opens no folders
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
