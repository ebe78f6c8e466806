"""What became of each injected fault, for the table in docs/reliability.md: `scripts/reliability_table.py` makes it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["FAULTS", "Injection", "injections", "line_of"]

VARIABLE = "SIGNAL_DIFFUSION_CHAOS_RECORD"
"""The file to append a line of JSON per fault to."""
FAULTS = (
    "clock jumps by a day: train",
    "dataset moved away: train",
    "full disk: copy of a split",
    "full disk: export",
    "full disk: prepare",
    "full disk: sample",
    "full disk: train",
    "full disk: train, two processes",
    "one of two processes killed: train",
    "read-only cache: train",
    "read-only dataset: train",
    "read-only run folder: train",
    "SIGHUP: train",
    "SIGINT: train",
    "SIGKILL: export",
    "SIGKILL: latent cache",
    "SIGKILL: prepare",
    "SIGKILL: sample",
    "SIGKILL: train",
    "SIGTERM twice: train",
    "SIGTERM: export, prepare and sample",
    "SIGTERM: train",
    "SIGUSR1: train",
    "SIGUSR2: train",
    "TensorBoard cannot write: train",
)
"""The rows of the table: a fault, and the command that meets it."""


@dataclass(frozen=True)
class Injection:
    """A fault that a command has met."""

    shown: str
    """The line that the user sees; "" if there is none."""
    steps_lost: int = 0


@contextmanager
def injections(fault: str) -> Iterator[list[Injection]]:
    """Yield a list for what becomes of one of the `FAULTS`; they are survived if the block ends without an error."""
    assert fault in FAULTS
    made: list[Injection] = []
    survived = False
    try:
        yield made
        survived = True
    finally:
        if path := os.environ.get(VARIABLE):
            lines = [json.dumps({"fault": fault, "survived": survived, **asdict(each)}) + "\n" for each in made]
            with Path(path).open("a", encoding="utf-8") as file:
                file.write("".join(lines))


def line_of(output: str, *folders: Path) -> str:
    """The line of an output that tells the user about a fault, with `folders` as an ellipsis."""
    assert "Traceback" not in output, output
    marks = ("error: ", "warning: TensorBoard", "stopped by ")
    line = next((line for line in reversed(output.splitlines()) if line.startswith(marks)), "")
    for folder in folders:
        line = line.replace(str(folder), "…")
    return re.sub(r"/\S*/pytest-\d+/", "…/", line)
