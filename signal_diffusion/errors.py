"""The one exception that is meant for people, and the edge at which it becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

__all__ = ["UserError", "listed", "raised_by_all", "reported_to_user"]


class UserError(Exception):
    """Something that the user can put right: what was found and where, what was expected, what to do.

    Each of `lines` is one problem and one line; a file with three mistakes raises once, with three lines.
    """

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def listed(names: Sequence[str], most: int = 5) -> str:
    """Put names into a line of an error: all of them, or the first and an ellipsis."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


@contextmanager
def raised_by_all() -> Iterator[None]:
    """Raise on all processes what one of them is refused in the block: a `UserError`, or the operating system's answer.

    None waits then for one that has left. Every process has to come to the block's end, which is a barrier too.
    """
    from accelerate.utils import gather_object  # takes seconds, and most commands have one process

    lines: tuple[str, ...] = ()
    try:
        yield
    except (UserError, OSError) as error:
        lines = error.lines if isinstance(error, UserError) else (_told(error),)
    if first := next(filter(None, gather_object([lines])), None):
        raise UserError(*first)


@contextmanager
def reported_to_user() -> Iterator[None]:
    """Print the lines of a `UserError` to standard error and exit with code 2, without a traceback.

    Likewise for what the operating system refuses: a folder that cannot be written, a full disk.
    Of the processes that a launcher has started on a machine, the first one prints for all.
    """
    try:
        yield
    except (UserError, OSError) as error:
        lines = error.lines if isinstance(error, UserError) else (_told(error),)
        if os.environ.get("LOCAL_RANK", "0") == "0":
            for line in lines:
                print(f"error: {line}", file=sys.stderr)
        raise SystemExit(2) from None


def _told(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; check the path, its permissions and the space left"
