"""What is due after which optimizer step."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from signal_diffusion.config import schema
from signal_diffusion.training.state import Progress

__all__ = ["Intervals", "in_steps"]


@dataclass(frozen=True)
class Intervals:
    """When a run logs, validates, draws previews and saves; each also after its last step."""

    training: schema.Training
    """With all intervals in steps."""
    num_steps: int
    """Of the whole run."""

    def logs(self, step: int) -> bool:
        """Whether metrics are logged after `step` (from 1)."""
        return self._is_due(step, self.training.log_interval)

    def validates(self, progress: Progress) -> bool:
        """Whether a validation is due at this progress and not done yet."""
        return progress.validated != progress.step and self._is_due_or_first(progress.step, self.training.validation)

    def draws(self, progress: Progress) -> bool:
        """Whether previews are due at this progress and not done yet."""
        return progress.pictured != progress.step and self._is_due_or_first(progress.step, self.training.visualization)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`, whether it is the best or not."""
        table = self.training.checkpointing
        return not table.save_best_only and self._is_due(step, table.interval)

    def _is_due_or_first(self, step: int, table: schema.Validation | schema.Visualization) -> bool:
        return table.at_start if step == 0 else self._is_due(step, table.interval)

    def _is_due(self, step: int, interval: int) -> bool:
        return step > 0 and interval > 0 and (step % interval == 0 or step == self.num_steps)


def in_steps(training: schema.Training, steps_per_epoch: int) -> schema.Training:
    """[training] with all intervals in optimizer steps."""
    tables = {}
    for name in ("checkpointing", "validation", "visualization"):
        table = getattr(training, name)
        if table.unit == "epochs":
            tables[name] = dataclasses.replace(table, interval=table.interval * steps_per_epoch, unit="steps")
    return dataclasses.replace(training, **tables)
