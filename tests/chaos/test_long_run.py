"""A long run does not grow: memory, open files and threads stay as they are after the first steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from signal_diffusion.training.trainer import Trainer
from tests.chaos import faults

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
STEPS, EVERY, SETTLED = 5000, 100, 1500
ROOT = Path(__file__).parents[2]


def train_and_measure(words: list[str], path: Path) -> None:
    """Train, and write step, memory in MiB, open files and threads every 100 steps."""
    original, process, rows = Trainer.take_step, psutil.Process(), []

    def measured(self: Trainer, step: int, *arguments: object) -> object:
        if step % EVERY == 0:
            self.writer.collect(wait=True)
            rows.append((step, process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()))
        return original(self, step, *arguments)  # type: ignore[arg-type]

    Trainer.take_step = measured  # type: ignore[method-assign,assignment]
    try:
        faults.run(words)
    finally:
        path.write_text(json.dumps(rows))


def test_memory_open_files_and_threads_do_not_grow_over_5000_steps(experiment_file: Path, tmp_path: Path) -> None:
    overrides = (
        f"training.max_steps={STEPS}",
        "training.gradient_accumulation_steps=1",
        "training.checkpointing.interval=50",
        "training.checkpointing.total_limit=3",
        "training.validation.interval=100",
        "training.visualization.enabled=true",
        "training.visualization.interval=250",
        "training.visualization.num_samples=2",
        "logging.tensorboard=true",
    )
    sets = [word for override in overrides for word in ("--set", override)]
    words = ["train", str(experiment_file), "--output-dir", str(tmp_path / "run"), *sets]
    measured = str(tmp_path / "measured.json")
    measure = f"from tests.chaos.test_long_run import *; train_and_measure({words!r}, Path({measured!r}))"
    # a process of its own: one that is forked maps libraries only when it needs them, which looks like growth
    finished = subprocess.run([sys.executable, "-c", measure], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    steps, memory, files, threads = np.array(json.loads((tmp_path / "measured.json").read_text())).T
    settled = steps >= SETTLED
    slope = np.polyfit(steps[settled], memory[settled], 1)[0] * 1000
    print(f"{slope:.2f} MiB per 1,000 steps; open files {files[settled]}; threads {threads[settled]}")
    assert slope < 6  # MiB per 1,000 steps: 1.5 and 3.3 were seen; in the first 1,000, caches grow by tens
    assert np.ptp(files[settled]) <= 2 and np.ptp(threads[settled]) <= 2
