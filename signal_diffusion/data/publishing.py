"""Write a folder atomically: to a hidden folder next to it, which is flushed and renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import filelock

from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError

__all__ = ["atomic_folder"]


@contextmanager
def atomic_folder(output: Path, what: str = "the folder", *, needs: int = 0, replaces: bool = True) -> Iterator[Path]:
    """Yield a temporary folder to write to, and move it to `output` on success.

    If the disk is full, the error says that `what` cannot be written, and how many bytes it `needs`; 0 = not known.

    An existing `output` stays until then, and stays for good if an error is raised. If the process is killed between
    the two renames that exchange them, the next call restores the old folder. Raises `UserError` if another process
    writes the same output, and, unless `replaces`, if something has appeared at `output`.
    """
    output = output.resolve()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, old, lock_file = (output.with_name(f".{output.name}.{what}") for what in ("partial", "old", "lock"))
    lock = filelock.FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{output}: another process is writing it; wait until it is done or choose another --output"
        ) from None
    with writing(output, what, needs=needs, advice="free some space and repeat the command"), ExitStack() as stack:
        stack.callback(lock.release)
        # still locked: after the release this could delete another process's lock
        stack.callback(lock_file.unlink, missing_ok=True)
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        if old.exists() and not output.exists():
            old.rename(output)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _flush(partial)
        if replaces:
            _exchange(partial, output, old)
        else:
            _move(partial, output)


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


def _move(partial: Path, output: Path) -> None:
    try:
        partial.rename(output)  # fails if there is a file, or a folder that is not empty
    except OSError:
        if not output.exists():
            raise
        raise UserError(
            f"{output}: was created by something else in the meantime; move it away and repeat the command"
        ) from None


def _flush(root: Path) -> None:
    """Flush files to disk before the rename that makes them visible."""
    for path in [*root.rglob("*"), root]:
        if path.is_file() or os.name == "posix":  # Windows cannot open folders
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
