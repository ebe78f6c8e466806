"""The processes that a launcher started, which share the work of sampling."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, raise_on_all_processes
from signal_diffusion.sampling.trained import device_of
from signal_diffusion.training.neighbours import Neighbours

__all__ = ["agreed_checkpoint", "ending_together", "failing_together", "on_all_processes", "processes_of"]

TIMEOUT = timedelta(days=7)
"""How long a finished process waits for the others; a process that fails stops all of them at once."""
Job = TypeVar("Job")
Result = TypeVar("Result")


def processes_of(compute: schema.Compute) -> PartialState:
    """The state of this process among those that a launcher started."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return PartialState(cpu=device_of(compute) == "cpu", **({"timeout": TIMEOUT} if several else {}))


def agreed_checkpoint(checkpoint: Path, compute: schema.Compute) -> Path:
    """The checkpoint that the first process found, for all processes: a run in progress may write a newer one."""
    processes_of(compute)
    [first] = broadcast_object_list([checkpoint])
    return first


@contextmanager
def ending_together(advice: str) -> Iterator[None]:
    """Leave the group of processes at the end; if one is lost, end the others with a line that ends with `advice`."""
    try:
        with Neighbours(PartialState(), lambda: advice):
            yield
    finally:
        PartialState().destroy_process_group()


def on_all_processes(jobs: Sequence[Job], do: Callable[[Job], Result], state: PartialState) -> list[Result]:
    """The results of `do` for all jobs, in their order, on every process; each process does every n-th job."""
    with failing_together(state):
        own = [do(job) for job in jobs[state.process_index :: state.num_processes]]
    shares = gather_object([own])
    return [shares[number % len(shares)][number // len(shares)] for number in range(len(jobs))]


@contextmanager
def failing_together(state: PartialState) -> Iterator[None]:
    """Raise an error of one process on all processes, so that none waits for a process that has failed."""
    with raise_on_all_processes():
        try:
            yield
        except (UserError, OSError):
            raise
        except Exception as error:
            if state.num_processes == 1:
                raise
            traceback.print_exc()
            raise UserError(f"process {state.process_index}: {type(error).__name__}: {error}") from error
