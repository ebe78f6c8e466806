"""Training classifiers in a worker that is killed in the middle of a unit; workers import this module."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signal_diffusion.evaluation.utility.people import Fold
from signal_diffusion.evaluation.utility.trials import Trial, run_unit

__all__ = ["KilledWhileTraining"]


@dataclass(frozen=True)
class KilledWhileTraining:
    """`run_unit`, but the process dies at the end of the first attempt at a unit."""

    folder: Path
    """Notes what was trained, a file per attempt."""
    unit: tuple[int, float]
    """Seed and share."""

    def __call__(
        self, path: Path, seed: int, number: int, fold: Fold, share: float | None, **options: Any
    ) -> list[Trial]:
        attempt = len(list(self.folder.glob(f"{seed} {share} *")))
        (self.folder / f"{seed} {share} {attempt}").touch()
        found = run_unit(path, seed, number, fold, share, **options)
        if (seed, share) == self.unit and attempt == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found
