"""Run commands in processes of their own and put faults into them while they change files.

A killed process leaves what is on the disk, and that changes only when a file is opened, renamed or removed. Python
announces each of these to audit hooks. So faults at random ones of these events reach every state of the disk, and the
same again with the same seed; faults at random times would mostly hit the same long computations.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.training.processes import Finished, another_process

__all__ = ["KILL", "command", "events_of", "faulty", "run", "stopped_twice", "succeed", "with_fault"]

KILL = partial(signal.raise_signal, signal.SIGKILL)

EVENTS = ("open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir")
COUNT = ".events"


def command(*words: object) -> Finished:
    """Run `train …` or a subcommand of signal-diffusion, as from a terminal."""
    return another_process(run, [str(word) for word in words])


def succeed(*words: object) -> None:
    """Run a command, which must succeed."""
    finished = command(*words)
    assert finished.exit_codes == [0], finished.output


def events_of(folder: Path, *words: object) -> int:
    """Run a command to its end; how often it changed something in `folder`."""
    finished = faulty(None, sys.maxsize, folder, *words)
    assert finished.exit_codes == [0], finished.output
    return int(folder.with_name(f"{folder.name}{COUNT}").read_text())


def faulty(fault: Callable[[], object] | None, event: int, folder: Path, *words: object) -> Finished:
    """Run a command that meets `fault` right before it changes something in `folder` for the `event`-th time (from 0).

    `fault` is called in the command's process.
    """
    return another_process(with_fault, fault, event, folder, partial(run, [str(word) for word in words]))


def with_fault(fault: Callable[[], object] | None, event: int, folder: Path, function: Callable[[], object]) -> None:
    """Call a function in this process, with the fault as in `faulty`; the process has to end afterwards."""
    seen, prefix = itertools.count(), f"{folder}{os.sep}"

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name in EVENTS and _is_inside(prefix, *arguments) and next(seen) == event and fault:
            fault()

    sys.addaudithook(hook)
    try:
        function()
    finally:
        folder.with_name(f"{folder.name}{COUNT}").write_text(str(next(seen)))


def stopped_twice(number: signal.Signals) -> None:
    """Send this process two signals, the second as if more than five seconds had passed."""
    from signal_diffusion.training import stopping

    stopping.SECONDS_TO_REPEAT = -1
    for _ in range(2):
        os.kill(os.getpid(), number)
        time.sleep(0.2)  # so that two signals are not taken for one


def _is_inside(prefix: str, path: object, *others: object) -> bool:
    """Whether an event's path is below a folder; names relative to a folder are those that `rmtree` removes."""
    if not isinstance(path, str | os.PathLike):
        return False
    return os.fspath(path).startswith(prefix) or (isinstance(others[-1], int) and not Path(path).is_absolute())


def run(words: Sequence[str]) -> None:
    from signal_diffusion import cli
    from signal_diffusion.training import diffusion

    sys.argv = list(words) if words[0] == "train" else ["signal-diffusion", *words]
    main = diffusion.main if words[0] == "train" else cli.main
    main()
