"""When something is due: what an experiment counts in epochs, in optimizer steps."""

from __future__ import annotations

import dataclasses

from signal_diffusion.config import schema

__all__ = ["in_steps"]


def in_steps(training: schema.Training, steps_per_epoch: int) -> schema.Training:
    """[training] with every interval of its tables in optimizer steps."""
    tables = {}
    for name in ("checkpointing", "validation", "visualization"):
        table = getattr(training, name)
        if table.unit == "epochs":
            tables[name] = dataclasses.replace(table, interval=table.interval * steps_per_epoch, unit="steps")
    return dataclasses.replace(training, **tables)
