"""The training state in a checkpoint: progress, optimizer and the writers of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor, nn

from signal_diffusion import checkpoints
from signal_diffusion.errors import UserError, listed, one_line
from signal_diffusion.models.lora import trained_state
from signal_diffusion.models.sharding import is_sharded, split_like, whole
from signal_diffusion.training.ema import Ema
from signal_diffusion.training.optimizers import with_zero_momentum
from signal_diffusion.untrusted import read_json, read_torch

__all__ = ["OPTIMIZER", "PROGRESS", "Progress", "copied", "resume_optimizer", "writers"]

OPTIMIZER = "optimizer.pt"
PROGRESS = "progress.json"


@dataclass
class Progress:
    """Progress of a run; saved with each checkpoint, so that a resumed run has bit-identical metrics."""

    step: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps done."""
    steps_per_epoch: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps per epoch; 0 = written by an older version, which did not save it."""
    losses: list[Annotated[list[float], Field(min_length=2, max_length=2)]] = field(default_factory=list)
    """Per process: sum and number of the finite losses since the last row of metrics."""
    optimizer: str = ""
    """Type of the optimizer that `optimizer.pt` is the state of."""
    skipped_steps: int = 0
    skipped_in_a_row: Annotated[int, Field(ge=0)] = 0
    """The last of them, without one between that was not skipped."""
    ema_updates: int = 0
    post_hoc_updates: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps in the averages of post-hoc EMA; 0 = there are none."""
    validated: int = -1
    """Step of the last validation."""
    pictured: int = -1
    """Step of the last preview."""
    schedule_start: int = 0
    """Step at which the learning-rate schedule started."""
    rollbacks: Annotated[int, Field(ge=0)] = 0
    """How often the run went back to its last good checkpoint; part of the key of the noise of later steps."""
    is_finite: bool = True
    """Whether the last validation was finite."""
    good_step: int | None = None
    """Step of the last good checkpoint: one whose weights and last validation were finite."""
    best_step: int | None = None
    best_value: float | None = None
    plateau: dict[str, Any] | None = None
    scaler: dict[str, Any] | None = None

    @classmethod
    def of(cls, checkpoint: Path) -> Self:
        """Read the progress from a checkpoint.

        Raises
        ------
        UserError
            If it is damaged, or a newer version wrote keys that this one does not know.
        """
        path = checkpoint / PROGRESS
        names = read_json(path, dict[str, Any], checkpoints.DAMAGED).keys()
        if unknown := names - {each.name for each in fields(cls)}:
            raise UserError(
                f"{path}: unknown {listed(sorted(unknown))}, written by a newer version of signal-diffusion; use that"
            )
        return read_json(path, cls, checkpoints.DAMAGED)


def resume_optimizer(optimizer: torch.optim.Optimizer, kind: str, checkpoint: Path, saved_kind: str) -> None:
    """Load a checkpoint's optimizer state (of type `saved_kind`) into an optimizer of type `kind`.

    Settings (weight decay, betas) stay those of the experiment. The learning rate is that of the last step until the
    next one sets it: a run that was stopped after its last step saves it again.

    Raises
    ------
    UserError
        If the checkpoint has no optimizer state, or one of another type or of another model.
    """
    advice = "set training.resume.reset_optimizer = true to start with a fresh state, or start a new run"
    path = checkpoint / OPTIMIZER
    if not path.is_file():
        raise UserError(
            f"{checkpoint}: has no {OPTIMIZER} to resume from (training.checkpointing.save_optimizer was false); "
            f"{advice}"
        )
    if saved_kind != kind:
        raise UserError(
            f"[training.optimizer] type: {kind!r}, but {checkpoint} was trained with {saved_kind!r}; expected the "
            f"same, or {advice}"
        )
    settings = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    saved = read_torch(path, checkpoints.DAMAGED)
    try:
        _split(saved, optimizer)
        optimizer.load_state_dict(saved)
        _check_moments(optimizer, settings)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:  # whatever a file may contain
        raise UserError(f"{path}: is the state of another model: {one_line(error)}; {advice}") from None
    for group, setting in zip(optimizer.param_groups, settings, strict=True):
        group.update(setting)
    with_zero_momentum(optimizer)


def _split(saved: Any, optimizer: torch.optim.Optimizer) -> None:
    """Replace the moments of sharded parameters by this process's parts, before a device would get the whole."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if not is_sharded(parameters[0]):
        return
    for index, moments in saved["state"].items():
        for name in [name for name in moments if name != "step"]:
            if moments[name].shape == parameters[index].shape:
                moments[name] = split_like(moments[name], parameters[index])


def _check_moments(optimizer: torch.optim.Optimizer, settings: Sequence[Mapping[str, Any]]) -> None:
    """Check that each parameter has all moments of its group's settings or none, of its own shape, and copy them.

    torch checks nothing, and its fused step reads and writes beyond a tensor that is shorter than its parameter, or
    that repeats its values in memory.
    """
    pairs = zip(optimizer.param_groups, settings, strict=True)
    for parameter, setting in ((parameter, setting) for group, setting in pairs for parameter in group["params"]):
        expected = {"momentum_buffer"} if "momentum" in setting else {"step", "exp_avg", "exp_avg_sq"}
        moments = optimizer.state.get(parameter, {})
        if moments and moments.keys() != expected:
            raise ValueError(f"has {listed(sorted(moments))}, expected {listed(sorted(expected))}")
        for name, value in moments.items():
            if value is None and name == "momentum_buffer":  # of a step that was skipped
                continue
            shape = () if name == "step" else parameter.shape
            if not isinstance(value, Tensor) or value.shape != shape:
                found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(f"{name} has shape {found}, expected {tuple(shape)}")
            like = torch.zeros((), device=parameter.device) if name == "step" else parameter
            moments[name] = torch.empty_like(like, requires_grad=False).copy_(split_like(value.detach(), like))


def writers(
    model: nn.Module,
    ema: Ema | None,
    optimizer: torch.optim.Optimizer | None,
    progress: Progress,
    attachments: Mapping[str, str],
    post_hoc: dict[str, Tensor] | None = None,
) -> dict[str, checkpoints.Writer]:
    """Writers of a checkpoint's files by name; of the model only trained weights; `attachments` are texts.

    They write copies, in the host's memory, of the present values; if these are sharded, all processes must call this.
    `post_hoc`, the averages of post-hoc EMA if there are any, has been copied before.
    """
    files: dict[str, checkpoints.Writer] = {
        checkpoints.WEIGHTS: partial(save_file, copied(trained_state(model))),
        PROGRESS: partial(_write_text, text=json.dumps(asdict(progress), indent=2) + "\n"),
    }
    if ema:
        files[checkpoints.EMA_WEIGHTS] = partial(save_file, copied(ema.state_dict()))
    if post_hoc:
        files[checkpoints.POST_HOC_EMA] = partial(save_file, post_hoc)
    if optimizer:
        files[OPTIMIZER] = partial(torch.save, copied(optimizer.state_dict()))
    for name, text in attachments.items():
        files[name] = partial(_write_text, text=text)
    return files


def copied(state: Any) -> Any:
    """A nested state with its tensors copied to the host's memory.

    Sharded ones are gathered one after the other, on all processes, of which only the first keeps them.
    """
    if isinstance(state, torch.Tensor):
        if is_sharded(state):
            gathered = whole(state.detach())
            return gathered.cpu() if torch.distributed.get_rank() == 0 else None
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: copied(value) for key, value in state.items()}
    return [copied(value) for value in state] if isinstance(state, list) else state


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
