"""What a checkpoint holds of a trainer: where the run stands, and the files that it goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import nn

from signal_diffusion.models.lora import trained_state
from signal_diffusion.training import checkpoints
from signal_diffusion.training.ema import Ema

__all__ = ["OPTIMIZER", "PROGRESS", "Progress", "writers"]

OPTIMIZER = "optimizer.pt"
PROGRESS = "progress.json"


@dataclass
class Progress:
    """Where a run stands: saved with each checkpoint, so that the metrics go on to the bit."""

    step: int = 0
    """Optimizer steps done."""
    losses: list[list[float]] = field(default_factory=list)
    """Per process: sum and number of the finite losses since the last row of metrics."""
    optimizer: str = ""
    """Type of the optimizer whose state lies beside."""
    skipped_steps: int = 0
    ema_updates: int = 0
    validated: int = -1
    """Step of the last validation."""
    pictured: int = -1
    """Step of the last preview."""
    schedule_start: int = 0
    """Step at which the learning-rate schedule was begun."""
    best_step: int | None = None
    best_value: float | None = None
    plateau: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None

    @classmethod
    def of(cls, checkpoint: Path) -> Self:
        """Where the run stood when it wrote a checkpoint."""
        return cls(**json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8")))


def writers(
    model: nn.Module,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer | None,
    progress: Progress,
    attachments: Mapping[str, str],
) -> dict[str, checkpoints.Writer]:
    """The files of a checkpoint by name: of the model, what is trained; `attachments` are text."""
    weights, stand = trained_state(model), json.dumps(asdict(progress), indent=2) + "\n"
    files: dict[str, checkpoints.Writer] = {
        checkpoints.WEIGHTS: lambda path: save_file(weights, path),
        PROGRESS: partial(_write_text, text=stand),
    }
    if ema:
        averages = ema.state_dict()
        files[checkpoints.EMA_WEIGHTS] = lambda path: save_file(averages, path)
    if optimizer:
        moments = optimizer.state_dict()
        files[OPTIMIZER] = lambda path: torch.save(moments, path)
    for name, text in attachments.items():
        files[name] = partial(_write_text, text=text)
    return files


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
