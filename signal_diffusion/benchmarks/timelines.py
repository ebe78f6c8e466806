"""Run a training command, and read from its TensorBoard files when it did what."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from signal_diffusion.errors import UserError

__all__ = ["Timeline", "timed"]

LOSSES = ("loss", "train/loss")
"""What diffusers and we call the loss of a step."""


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """When a run did what, in seconds since it was started."""

    first_step: float
    last_step: float
    preview: float
    """The sample pictures were drawn."""
    end: float
    cpu: float
    """Of all cores and processes, which hardly depends on other work on the machine."""


def timed(command: list[str], output: Path) -> Timeline:
    """Run a training command and read its TensorBoard files in `output`; a `UserError` if it fails."""
    start, cpu = time.time(), _cpu_of_children()  # TensorBoard's clock
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=_environment())
    end = time.time()
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if "Error" in line or "error" in line] or lines or ["no message"]
        raise UserError(f"{' '.join(command[1:4])} … failed: {errors[0].strip()}")
    steps, pictures = _events(output)
    return Timeline(
        first_step=steps[0] - start,
        last_step=steps[-1] - start,
        preview=pictures[-1] - start,
        end=end - start,
        cpu=_cpu_of_children() - cpu,
    )


def _cpu_of_children() -> float:
    """CPU seconds of all processes that this one has started and waited for, and of those that they have."""
    times = os.times()
    return times.children_user + times.children_system


def _environment() -> dict[str, str]:
    """This environment; Matplotlib's list of fonts is that of the user, and not made again."""
    import matplotlib

    return os.environ | {"MPLCONFIGDIR": matplotlib.get_cachedir()}


def _events(output: Path) -> tuple[list[float], list[float]]:
    """The times at which a run logged the loss of its steps, and pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps, pictures = list[float](), list[float]()
    for folder in sorted({path.parent for path in output.rglob("events.out.tfevents.*")}):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
        tags = events.Tags()
        steps += [each.wall_time for tag in tags["scalars"] if tag in LOSSES for each in events.Scalars(tag)]
        pictures += [each.wall_time for tag in tags["images"] for each in events.Images(tag)]
    if not steps or not pictures:
        raise UserError(f"{output.name}: has logged no loss or no picture to TensorBoard")
    return sorted(steps), sorted(pictures)
