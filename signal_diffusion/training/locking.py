"""A lock on the run directory: two commands in one would delete and overwrite each other's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock
from accelerate import Accelerator

from signal_diffusion.errors import UserError, raise_on_all_processes

__all__ = ["LOCK_NAME", "lock_run"]

LOCK_NAME = ".lock"


@contextmanager
def lock_run(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Create a run directory and lock it for this command; the first process holds the lock for all.

    The operating system releases it when that process ends in any way. A directory that stays empty is removed again.

    Raises
    ------
    UserError
        On every process, if another command has locked it; nothing in it is changed then.
    """
    with ExitStack() as stack:
        with raise_on_all_processes():
            if accelerator.is_main_process:
                stack.enter_context(_created(folder))
                stack.enter_context(_locked(folder))
        yield


@contextmanager
def _created(folder: Path) -> Iterator[None]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # not empty
            for path in missing:
                path.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # A soft lock is only the file's existence: after a kill it would stay and refuse every later command.
    lock = filelock.FileLock(folder / LOCK_NAME, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{folder}: another command is training in this run directory; wait until it ends, or choose another "
            "--output-dir"
        ) from None
    except OSError:  # no locks on this file system; if it cannot be written at all, the run's own files will fail
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows cannot remove an open file
                (folder / LOCK_NAME).unlink()  # while locked, so that another command's lock is never removed
            lock.release()
