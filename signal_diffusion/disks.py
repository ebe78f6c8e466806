"""Full disks: an error that says what was being written where, how much space it needs and how much is free."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from traceback import clear_frames
from typing import Any

from signal_diffusion.errors import UserError

__all__ = ["FullDiskError", "amount", "size_of", "writing"]

QUOTA = "Disk quota exceeded"
PHRASES = re.compile(rf"No space left on device|{QUOTA}|unexpected pos \d+ vs \d+|\d+ requested and \d+ written")
"""In errors without a number: of safetensors (the first two), of torch.save, and of np.save."""


class FullDiskError(UserError):
    """A disk is full, or a quota is used up."""


@contextmanager
def writing(path: Path, what: str, *, needs: int = 0, advice: str = "free some space") -> Iterator[None]:
    """Raise a `FullDiskError` if the disk is full in this context, in which `what` is written to `path`.

    Other errors pass.

    Parameters
    ----------
    needs
        Size of what is written in bytes; 0 = not known.
    advice
        What the user can do.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # OSError, but RuntimeError of torch, and SafetensorError
        number = getattr(error, "errno", None)
        if number not in (errno.ENOSPC, errno.EDQUOT) and not PHRASES.search(str(error)):
            raise
        full = "the quota is used up" if number == errno.EDQUOT or QUOTA in str(error) else "the disk is full"
        _close_files(error)
        existing = next(folder for folder in path.absolute().parents if folder.is_dir())
        free = amount(shutil.disk_usage(existing).free)
        space = f"needs {amount(needs)}, {free} free" if needs else f"needs more than the {free} that are free"
        raise FullDiskError(f"{path}: cannot write {what}: {full} ({space}); {advice}") from error


def _close_files(error: BaseException | None) -> None:
    """Forget what the frames of an error hold: torch.save leaves its file open, and the space of it is not free."""
    while error:
        clear_frames(error.__traceback__)
        error = error.__context__


def size_of(content: Any) -> int:
    """Bytes of all tensors and arrays in nested mappings, sequences and arguments of `functools.partial`."""
    if isinstance(content, Mapping):
        return sum(map(size_of, content.values()))
    if isinstance(content, list | tuple):
        return sum(map(size_of, content))
    return size_of(content.args) if isinstance(content, partial) else getattr(content, "nbytes", 0)


def amount(size: int) -> str:
    """A number of bytes, for people."""
    power = min(max(size.bit_length() - 1, 0) // 10, 3)
    return f"{size / 2 ** (10 * power):,.{min(power, 1)}f} {('B', 'KiB', 'MiB', 'GiB')[power]}"
