"""One command at a time in a run's folder: two would remove, and write over, what the other one has there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import filelock
from accelerate import Accelerator

from signal_diffusion.errors import UserError, raised_by_all

__all__ = ["LOCK_NAME", "alone_in"]

LOCK_NAME = ".lock"


@contextmanager
def alone_in(folder: Path, accelerator: Accelerator) -> Iterator[None]:
    """Keep a run's folder, which is made, to this command: the first process locks it for all.

    The system frees it when that process ends, however it ends. A folder that is still empty at the end goes again.

    Raises
    ------
    UserError
        On every process, where another command has the folder; nothing there is touched then.
    """
    with ExitStack() as stack:
        with raised_by_all():
            if accelerator.is_main_process:
                stack.enter_context(_made(folder))
                stack.enter_context(_locked(folder))
        yield


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):  # of a folder with something in it
            for path in missing:
                path.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # A soft lock, which is a file that is there, would outlive a kill, and refuse every command from then on.
    lock = filelock.FileLock(folder / LOCK_NAME, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(
            f"{folder}: a run is being trained there already; wait for its end, or choose another --output-dir"
        ) from None
    except OSError:  # a file system without locks; one that refuses the file says so of the run's own, too
        pass
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # Windows removes no file that is open
                (folder / LOCK_NAME).unlink()  # while it is locked, lest another command loses its own
            lock.release()
