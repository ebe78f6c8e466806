"""What a checkpoint holds of a trainer: where the run stands, and the files that it goes on from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import nn

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.lora import trained_state
from signal_diffusion.training.ema import Ema
from signal_diffusion.training.optimizers import with_momentum

__all__ = ["OPTIMIZER", "PROGRESS", "Progress", "resume_optimizer", "writers"]

OPTIMIZER = "optimizer.pt"
PROGRESS = "progress.json"


@dataclass
class Progress:
    """Where a run stands: saved with each checkpoint, so that the metrics go on to the bit."""

    step: int = 0
    """Optimizer steps done."""
    steps_per_epoch: int = 0
    """What an epoch of them is; 0 = not kept, by an older version."""
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
        """Where the run stood when it wrote a checkpoint.

        Raises
        ------
        UserError
            Where a newer version kept more than this one can go on with.
        """
        path = checkpoint / PROGRESS
        kept = json.loads(path.read_text(encoding="utf-8"))
        if unknown := kept.keys() - {each.name for each in fields(cls)}:
            raise UserError(
                f"{path}: unknown {listed(sorted(unknown))}, which a newer version of signal-diffusion wrote; use that"
            )
        return cls(**kept)


def resume_optimizer(optimizer: torch.optim.Optimizer, kind: str, checkpoint: Path, kept: str) -> None:
    """Give an optimizer of type `kind` the state of the one of type `kept` that lies in a checkpoint.

    What the experiment says of it (rates, decay, betas) stays the experiment's.

    Raises
    ------
    UserError
        Where there is none, or it is of another type or another model.
    """
    advice = "set training.resume.reset_optimizer = true, which begins its state anew, or start a new run"
    path = checkpoint / OPTIMIZER
    if not path.is_file():
        raise UserError(
            f"{checkpoint}: has no {OPTIMIZER} to go on with (training.checkpointing.save_optimizer was false); "
            f"{advice}"
        )
    if kept != kind:
        raise UserError(
            f"[training.optimizer] type: {kind!r}, but {checkpoint} was trained with {kept!r}; expected the same, or "
            f"{advice}"
        )
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: of another model: {error}") from None
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update(setting)
    with_momentum(optimizer)


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
