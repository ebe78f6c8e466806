"""Short runs that do all that a run does, to put faults into, and how they are compared."""

from __future__ import annotations

import json
from pathlib import Path

from signal_diffusion.checkpoints import list_checkpoints, list_snapshots, verify
from signal_diffusion.training.state import Progress
from signal_diffusion.training.tracking import METRICS_NAME
from tests.training.runs import largest_difference, metrics_of

__all__ = ["INTERVAL", "LAST", "SHORT", "assert_same", "resumed", "steps_lost", "training"]

INTERVAL = 2
"""Steps between two checkpoints."""
LAST = "checkpoint-8"
SHORT = (
    "training.max_steps=8",
    "training.log_interval=1",
    "training.gradient_accumulation_steps=1",
    f"training.checkpointing.interval={INTERVAL}",
    "training.checkpointing.total_limit=2",
    "training.validation.interval=3",
    "training.validation.num_examples=4",
    "training.visualization.num_samples=1",
    "training.visualization.interval=5",
    "data.loading.batch_size=8",
    "data.loading.max_train_examples=40",
)
"""Eight steps in epochs of five, with three checkpoints of validation, and rotation."""


def training(file: Path, run: Path, *overrides: str) -> list[object]:
    """The words of a command that trains, from the latest checkpoint if there is one."""
    resume = ["--resume-from-checkpoint", "latest"] if run.is_dir() and list_checkpoints(run) else []
    sets = [word for override in (*SHORT, *overrides) for word in ("--set", override)]
    return ["train", file, "--output-dir", run, *resume, *sets]


def resumed(run: Path) -> int:
    """The step of the newest checkpoint, which must be whole; 0 if there is none."""
    there = list_checkpoints(run) if run.is_dir() else []
    return verify(there[-1]) if there else 0


def steps_lost(run: Path) -> int:
    """How many of the steps that a run has taken are not in its newest checkpoint."""
    metrics = run / METRICS_NAME
    whole = [line for line in metrics.read_text().splitlines() if line.endswith("}")] if metrics.is_file() else []
    return max([json.loads(line)["step"] for line in whole], default=0) - resumed(run)


def assert_same(run: Path, expected: Path) -> None:
    """Check that a run ended as another: weights, averages, optimizer, progress, all metrics, and EMA snapshots.

    A stop saves a checkpoint, which takes the place of an older one, and the best one then stays besides.
    """
    assert largest_difference(run / LAST, expected / LAST) == 0
    assert metrics_of(run) == metrics_of(expected)
    snapshots = [{each.path.name: each.path.read_bytes() for each in list_snapshots(of)} for of in (run, expected)]
    assert snapshots[0] == snapshots[1]
    assert Progress.of(run / LAST) == Progress.of(expected / LAST)
    names, others = ({path.name for path in folder.iterdir()} for folder in (run, expected))
    assert all(name.startswith("checkpoint-") for name in names ^ others), names ^ others
    assert len(names) <= len(others) + 1
