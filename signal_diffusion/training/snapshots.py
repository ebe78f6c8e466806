"""The EMA snapshot that is written with a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from safetensors.torch import save_file
from torch import Tensor

from signal_diffusion import checkpoints

__all__ = ["Snapshot"]


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The averages of post-hoc EMA at a step, to be written."""

    averages: Mapping[str, Tensor]
    """In the host's memory; nothing else changes them."""
    step: int
    origin: int
    """Step at which averaging began."""

    @classmethod
    def of(cls, averages: Mapping[str, Tensor], *, step: int, num_updates: int) -> Self | None:
        """The snapshot of averages over the last `num_updates` steps; None if nothing is averaged."""
        return cls(averages=averages, step=step, origin=step - num_updates) if averages and num_updates else None

    def write(self, parent: Path) -> None:
        """Write the snapshot of a run whose checkpoints are in `parent`."""
        size = sum(value.nbytes for value in self.averages.values()) // 2
        checkpoints.write_snapshot(parent, self.step, self.origin, self._save, size=size)

    def _save(self, path: Path) -> None:
        """Save in fp16, which has three more bits than bf16; a tensor that exceeds its range stays in fp32."""
        halves = {name: value.half() for name, value in self.averages.items()}
        fits = {name: bool(half.isfinite().all()) for name, half in halves.items()}
        save_file({name: halves[name] if fits[name] else self.averages[name] for name in halves}, path)
