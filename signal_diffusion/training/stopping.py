"""Stop on request: SIGINT and SIGTERM set a flag that all processes see at the same step."""

from __future__ import annotations

import signal
import time
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["StopRequest", "Stopped"]

SECONDS_TO_REPEAT = 5.0
"""A repeated signal within this time is ignored: a launcher passes on signals that the terminal has sent already."""


class Stopped(Exception):  # noqa: N818  # not an error: the user asked for it
    """Raised in the middle of validation or sampling, so that the trainer can save and end."""


class StopRequest:
    """Catches SIGINT and SIGTERM inside its context; a signal more than five seconds after the first acts at once.

    With several processes, each poll sends this process's flag to the others over gloo, on the host, and returns what
    the previous poll gathered: no poll waits for the accelerator, and all processes stop at the same step.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._caught_at = 0.0
        self._previous: dict[signal.Signals, object] = {}
        self._group: Any = dist.new_group(backend="gloo") if dist.is_initialized() else None
        self._pending: tuple[dist.Work, torch.Tensor] | None = None

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()
        if self._pending and exception[0] is None:
            self._pending[0].wait()

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._caught_at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._caught_at > SECONDS_TO_REPEAT:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous = {}

    def poll(self) -> bool:
        """Whether to stop. Every process has to call it equally often; all get the same answer."""
        if self._group is None:
            return self.signal is not None
        stop = False
        if self._pending:
            work, flag = self._pending
            work.wait()
            stop = bool(flag.item())
        flag = torch.tensor([0 if self.signal is None else int(self.signal)])
        self._pending = (dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=self._group, async_op=True), flag)
        return stop

    def check(self) -> None:
        """Raise `Stopped` if `poll` is true."""
        if self.poll():
            raise Stopped
