"""`UserError`, the exception for mistakes of the user, and how commands end: with a message and an exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import ClassVar

from signal_diffusion.escaping import for_terminal

__all__ = [
    "LAUNCHER_ENDED",
    "SIGNALS",
    "MissingError",
    "UserError",
    "exit_on_signals",
    "listed",
    "log_once",
    "one_line",
    "print_warning",
    "raise_on_all_processes",
    "report_user_errors",
]

SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # Windows lacks the last three
]
"""Ctrl-C, a scheduler's end of time, a closed terminal, and the warnings that SLURM can be told to send before."""
LAUNCHER_ENDED: signal.Signals | None = getattr(signal, "SIGRTMAX", None)
"""A signal that nobody else sends: `accelerate launch` or torchrun has ended before this process; None but on Linux."""


class UserError(Exception):
    """A mistake that the user can fix. The message says where it is, what was found and expected, and what to do.

    Each of `lines` is one problem; a file with three mistakes raises once, with three lines.
    """

    exit_code: ClassVar[int] = 2
    """Exit code of a command that ends with this error."""
    every_process_prints: ClassVar[bool] = False
    """Whether a process that is not the first one of this machine prints it too."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class MissingError(UserError):
    """Something that an experiment names is not on this machine: a dataset, a checkpoint, or weights of the Hub.

    The experiment file itself may be right.
    """


def listed(names: Sequence[str], most: int = 5) -> str:
    """Join names for an error message: all, or the first `most` and an ellipsis."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def one_line(error: Exception) -> str:
    """Message of an error in one line of at most 200 characters; its type if the message is empty."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def print_warning(line: str) -> None:
    """Print a warning to standard error, without control characters; only the first process of this machine prints."""
    if _is_first_process():
        print(f"warning: {for_terminal(line)}", file=sys.stderr)


@cache
def log_once(logger: logging.Logger, *lines: str) -> None:
    """Log a warning of several lines, once per process, and only in the first process of this machine."""
    if _is_first_process():
        for line in lines:  # one record each: control characters in a record are escaped
            logger.warning("%s", line)


@contextmanager
def raise_on_all_processes() -> Iterator[None]:
    """If one process raises a `UserError` or `OSError` in the block, raise it as a `UserError` on all processes.

    This way no process waits forever for one that has failed. The end of the block is a barrier, which every process
    must reach.
    """
    from accelerate.utils import gather_object  # slow to import, and most commands have one process

    lines: tuple[str, ...] = ()
    try:
        yield
    except (UserError, OSError) as error:
        lines = error.lines if isinstance(error, UserError) else (_os_error_line(error),)
    if first := next(filter(None, gather_object([lines])), None):
        raise UserError(*first)


@contextmanager
def report_user_errors() -> Iterator[None]:
    """Print the lines of a `UserError` to standard error and exit with its exit code, without a traceback.

    The same, with code 2, for an `OSError`, such as a folder that cannot be written or a full disk. If a launcher
    started several processes on this machine, only the first one prints. Control characters in errors and in warnings
    of this package, which may quote recordings, are escaped.
    """
    handler = logging.lastResort  # prints the warnings of a program that configures no logging, like ours
    assert handler is not None
    handler.setFormatter(_EscapingFormatter())
    try:
        yield
    except (UserError, OSError) as error:
        lines = error.lines if isinstance(error, UserError) else (_os_error_line(error),)
        if _is_first_process() or getattr(error, "every_process_prints", False):
            for line in lines:
                print(f"error: {for_terminal(line)}", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, UserError) else UserError.exit_code) from None


def exit_on_signals() -> None:
    """Exit on `SIGNALS` as on Ctrl-C, by an exception, so that temporary files are removed.

    A signal that this process was told to ignore stays ignored, such as SIGHUP under `nohup`.
    """
    for number in {*SIGNALS, LAUNCHER_ENDED} - {signal.SIGINT, None}:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, frame: sys.exit(128 + number))


def _is_first_process() -> bool:
    """Whether this is the first of the processes that a launcher started on this machine, or the only one."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


class _EscapingFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name in `logging`
        message = super().formatMessage(record)
        return for_terminal(message) if record.name.startswith("signal_diffusion.") else message


def _os_error_line(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; check the path, its permissions and the free disk space"
