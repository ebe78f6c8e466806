"""Stop on request: signals set a flag that all processes see at the same step."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from signal_diffusion.errors import LAUNCHER_ENDED, SIGNALS

__all__ = ["StopRequest", "Stopped"]

SECONDS_TO_REPEAT = 5.0
"""A repeated signal within this time is ignored: a launcher passes on signals that the terminal has sent already."""


class Stopped(Exception):  # noqa: N818  # not an error: the user asked for it
    """Raised in the middle of validation or sampling, so that the trainer can save and end."""


class StopRequest:
    """Catches `SIGNALS` inside its context; the same one more than five seconds later acts at once.

    Another one does not: SLURM sends SIGUSR1, if told to, and later SIGTERM, while a checkpoint may still be written. A
    signal that this process was told to ignore stays ignored, such as SIGHUP under `nohup`.

    With several processes, each poll sends this process's flag to the others over gloo, on the host, and returns what
    the previous poll gathered: no poll waits for the accelerator, and all processes stop at the same step.
    """

    def __init__(self) -> None:
        self._cause = ""
        self._number, self._caught_at = 0, 0.0
        self._previous: dict[signal.Signals, object] = {}
        self._group: Any = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def __enter__(self) -> StopRequest:
        for number in filter(None, (*SIGNALS, LAUNCHER_ENDED)):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()
        if self._pending and exception[0] is None:
            self._pending[0].wait()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        name = "the end of its launcher" if number == LAUNCHER_ENDED else signal.Signals(number).name
        self._cause = self._cause or name
        if number != self._number:
            self._number, self._caught_at = number, time.monotonic()
        elif time.monotonic() - self._caught_at > SECONDS_TO_REPEAT:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def ask(self, cause: str) -> None:
        """Ask for a stop, like a signal; `cause` says in messages what stopped the run."""
        self._cause = cause

    @property
    def cause(self) -> str:
        """What asked for the stop."""
        return self._cause or "another process"

    def poll(self) -> bool:
        """Whether to stop. Every process has to call it equally often; all get the same answer."""
        if self._group is None:
            return bool(self._cause)
        stop = False
        if self._pending:
            work, flag = self._pending
            work.wait()
            stop = bool(flag.item())
        flag = torch.tensor([int(bool(self._cause))])
        self._pending = (dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True), flag)
        return stop

    def check(self) -> None:
        """Raise `Stopped` if `poll` is true."""
        if self.poll():
            raise Stopped
