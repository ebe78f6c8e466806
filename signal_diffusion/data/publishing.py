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
def published(output: Path, *, replaces: bool = True) -> Iterator[Path]:
    """Give a folder to write to, and put it in the place of `output` when all went well.

    What lies at `output` stays until then, and for good where something goes wrong; a kill between the two renames
    that exchange them is made good by the next call. Raises `UserError` where another process is at it, and, unless
    it `replaces` what is there, where something has appeared at `output`.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, old, lock_file = (output.with_name(f".{output.name}.{what}") for what in ("partial", "old", "lock"))
    lock = filelock.FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{output}: another process is writing it; wait for it or choose another --output") from None
    try:
        if old.exists() and not output.exists():
            old.rename(output)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _flush(partial)
        if replaces:
            _exchange(partial, output, old)
        else:
            _place(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        lock_file.unlink(missing_ok=True)  # while it is locked, lest another process loses its own
        lock.release()


def _exchange(partial: Path, output: Path, old: Path) -> None:
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    try:
        partial.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _place(partial: Path, output: Path) -> None:
    try:
        partial.rename(output)  # refused by the system where there is a file, or a folder with something in it
    except OSError:
        if not output.exists():
            raise
        raise UserError(
            f"{output}: has appeared while it was being made, and is left as it is; move it away and repeat the command"
        ) from None


def _flush(root: Path) -> None:
    """Bring files to the disk before the rename that says they are there."""
    for path in [*root.rglob("*"), root]:
        if path.is_file() or os.name == "posix":  # Windows opens no folders
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
