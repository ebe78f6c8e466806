"""Run units of work in order: in this process, in other processes of this machine, or on a cluster.

A unit is a function and its arguments; its result depends on these alone, so that it can run again elsewhere when the
process that ran it was killed. The interface to whatever runs units is `concurrent.futures.Executor`.
"""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice, starmap
from typing import Any, TypeVar

from signal_diffusion.errors import UserError

__all__ = ["Engine", "engine_of"]

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

AHEAD = 1000
"""Units that are submitted ahead of the result that is waited for."""


class Engine:
    """Runs units on an executor, and starts another one if that breaks.

    Parameters
    ----------
    start
        Starts an executor; None = run units in this process.
    lost
        The errors of a unit whose process was killed.
    patience
        How often the executor may break before the next result is there.
    """

    def __init__(
        self,
        start: Callable[[], Executor] | None = None,
        lost: tuple[type[Exception], ...] = (BrokenExecutor,),
        patience: int = 3,
    ) -> None:
        self._start, self._lost, self._patience = start, lost, patience
        self._executor: Executor | None = None

    def in_order(
        self, work: Callable[..., Result], units: Iterable[tuple[Any, ...]], *, ahead: int = AHEAD
    ) -> Iterator[Result]:
        """Yield `work(*unit)` of each unit, in their order; at most `ahead` of them are unfinished or waiting.

        Raises `UserError` if processes are killed again and again.
        """
        if self._start is None:
            yield from starmap(work, units)
            return
        remaining, waiting, kills = iter(units), deque[_Submitted](), 0
        while True:
            waiting.extend(_Submitted(unit) for unit in islice(remaining, ahead - len(waiting)))
            if not waiting:
                return
            try:
                self._executor = self._executor or self._start()
                for each in waiting:
                    if each.future is None or (self._patience and each.is_lost(self._lost)):
                        each.future = self._executor.submit(work, *each.unit)
                assert waiting[0].future is not None
                result = waiting[0].future.result()
            except self._lost as error:
                kills += 1
                self.stop()
                if kills > self._patience:
                    raise UserError(
                        f"a worker was killed {kills if self._patience else 'several'} "
                        "times, perhaps for lack of memory; use fewer --workers, or give each more memory"
                    ) from error
                logger.warning("a process was killed, perhaps for lack of memory; what it worked on is done again")
                continue
            kills = 0
            waiting.popleft()
            yield result

    def stop(self) -> None:
        """Stop the executor; units that it has not started are dropped."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Submitted:
    """A unit, and its future once it is submitted."""

    unit: tuple[Any, ...]
    future: Future[Any] | None = None

    def is_lost(self, lost: tuple[type[Exception], ...]) -> bool:
        """Whether the process that worked on it was killed, or it was dropped with the executor."""
        future = self.future
        return future is not None and future.done() and (future.cancelled() or isinstance(future.exception(), lost))


@contextmanager
def engine_of(workers: int, cluster: str | None = None) -> Iterator[Engine]:
    """Yield what runs the units of a command.

    Parameters
    ----------
    workers
        Processes of this machine, 1 = this process; with `cluster` "slurm", jobs.
    cluster
        Address of a Dask scheduler, "slurm", or None.
    """
    with ExitStack() as stack:
        if cluster is None:
            engine = Engine(partial(_processes, workers) if workers > 1 else None)
        else:
            from signal_diffusion.executing.clusters import dask_executor, lost_on_cluster

            executor = stack.enter_context(dask_executor(cluster, workers))
            # The scheduler itself runs a unit again, up to three times.
            engine = Engine(lambda: executor, lost_on_cluster(), patience=0)
        stack.callback(engine.stop)
        yield engine


def _processes(workers: int) -> Executor:
    # Forked children would inherit the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    """Make a worker exit when its parent is killed, instead of waiting for work for ever; and use one core."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch is imported
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
