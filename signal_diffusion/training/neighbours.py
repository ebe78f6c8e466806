"""Several processes: if one of them ends before its time, the others end within seconds, with one line about it.

torch itself notices late or never: a process waits for its neighbours inside a collective operation, with NCCL for ten
minutes, and then raises an error about sockets. Here each process keeps a connection to the first one, which the
operating system closes when a process ends in any way; the first one passes on which it was. A process that is only
slow is never taken for a lost one.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self

from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list

from signal_diffusion.errors import UserError, print_warning, report_user_errors

__all__ = ["LostProcessError", "Neighbours"]

SECONDS_TO_CONNECT = 30.0
SECONDS_TO_HEAR = 5.0
"""How long an error of torch waits for the news of a lost process; sockets of one machine need milliseconds."""
SECONDS_TO_EXPLAIN = 1.0
"""How long SIGTERM waits for that news: a launcher sends it when one process has ended, but also to stop all."""
SECONDS_TO_LEAVE = 15
"""How long the main thread may go on after a loss: it may write a checkpoint, or hang in a collective operation."""
DONE = b"done\n"


class LostProcessError(UserError):
    """Another process of this run has ended."""


class LostFirstProcessError(LostProcessError):
    """The first process has ended, which cannot print the error itself: the second one raises and prints this."""

    every_process_prints: ClassVar[bool] = True


class Neighbours:
    """Within this context, ends this process if another one ends before it has left its own context normally."""

    def __init__(self, state: Accelerator | PartialState, advice: Callable[[], str]) -> None:
        """Watch the processes of `state`; `advice` says how to go on."""
        self._rank, self._world, self._advice = state.process_index, state.num_processes, advice
        self._sockets: dict[int, socket.socket] = {}
        self._lost: int | None = None
        self._heard, self._left = threading.Event(), threading.Event()
        self._previous: Any = None

    def __enter__(self) -> Self:
        if self._world > 1:
            self._previous = signal.signal(signal.SIGTERM, self._on_sigterm)
            try:
                self._connect()
            except OSError as error:
                print_warning(f"cannot watch the other processes: {error}; if one ends, the others may wait for it")
            else:
                threading.Thread(target=self._watch, name="neighbours", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        is_unexplained = isinstance(error, Exception) and not isinstance(error, UserError)
        if is_unexplained and self._sockets:
            self._heard.wait(SECONDS_TO_HEAR)
        self._left.set()
        for connection in self._sockets.values():
            if error is None:
                _send(connection, DONE)
            connection.close()
        if self._lost is None and self._world > 1:
            signal.signal(signal.SIGTERM, self._previous)
        if self._lost is not None and is_unexplained:
            if hasattr(signal, "alarm"):
                signal.alarm(SECONDS_TO_LEAVE)  # NCCL may hang when the interpreter exits
            raise self._error(self._lost) from error

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Ignore the launcher's signal after a loss: this process ends anyway, and prints its line before."""
        if not self._heard.wait(SECONDS_TO_EXPLAIN):
            signal.signal(signal.SIGTERM, self._previous)
            signal.raise_signal(number)

    def _connect(self) -> None:
        """Connect the first process to all others; an `OSError` if that is not possible."""
        host = os.environ.get("MASTER_ADDR", "localhost")
        server: socket.socket | None = None
        if self._rank == 0:
            with suppress(OSError):  # not an address of this machine
                server = socket.create_server((host, 0))
        token = os.urandom(16)
        [(port, token)] = broadcast_object_list([(server.getsockname()[1] if server else 0, token)])
        if not port:
            raise OSError(f"{host} is not an address of the first process")
        if server is None:
            connection = socket.create_connection((host, port), SECONDS_TO_CONNECT)
            connection.sendall(token + self._rank.to_bytes(4, "big"))
            self._keep(0, connection)
            return
        with server:
            server.settimeout(SECONDS_TO_CONNECT)
            while len(self._sockets) < self._world - 1:
                connection, _ = server.accept()
                connection.settimeout(SECONDS_TO_CONNECT)
                greeting = connection.recv(len(token) + 4, socket.MSG_WAITALL)
                if greeting.startswith(token):  # not a program that tries all ports
                    self._keep(int.from_bytes(greeting[len(token) :], "big"), connection)

    def _keep(self, rank: int, connection: socket.socket) -> None:
        """Keep a connection, which also ends if the other machine loses its power or network for 25 s."""
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):  # not on Windows and macOS
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._sockets[rank] = connection

    def _watch(self) -> None:
        """Wait until all others have left their context, or one is lost."""
        with selectors.DefaultSelector() as selector:
            for rank, connection in self._sockets.items():
                selector.register(connection, selectors.EVENT_READ, rank)
            while selector.get_map() and not self._left.is_set():
                for key, _ in selector.select(1.0):
                    news = _receive(self._sockets[key.data])
                    if news != DONE:
                        self._end(int(news) if news else key.data)
                        return
                    selector.unregister(key.fileobj)

    def _end(self, lost: int) -> None:
        """Tell the others of a lost process, and end this one unless its main thread does."""
        if self._left.is_set():  # the connections are closed by this process
            return
        self._lost = lost
        for connection in self._sockets.values():
            _send(connection, b"%d\n" % lost)
        self._heard.set()
        if not self._left.wait(SECONDS_TO_LEAVE):
            with suppress(SystemExit), report_user_errors():
                raise self._error(lost)
            sys.stderr.flush()
            os._exit(UserError.exit_code)

    def _error(self, lost: int) -> LostProcessError:
        kind = LostFirstProcessError if (self._rank, lost) == (1, 0) else LostProcessError
        return kind(f"process {lost} of {self._world} has ended; {self._advice()}")


def _send(connection: socket.socket, news: bytes) -> None:
    with suppress(OSError):  # that process has ended too
        connection.sendall(news)


def _receive(connection: socket.socket) -> bytes:
    """News from another process; b"" if it has ended."""
    try:
        return connection.recv(64)
    except OSError:
        return b""
