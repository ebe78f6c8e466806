"""Optimizers by name, and learning rates as plain functions of the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from signal_diffusion.config import schema
from signal_diffusion.config.warnings import DEAD_LEARNING_RATE
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.training.muon import MuonAndAdamW

__all__ = ["LearningRate", "build_optimizer", "learning_rate_schedule", "with_zero_momentum"]

WARMUP_START = 1e-3  # share of the highest learning rate
WARMUP_SHARE = 0.1  # of the run, at most
DEAD_SHARE = 0.05  # of the run, at least; a schedule that ends at 0 is dead for less
PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")
"""The part of torch's schedule state that depends on the losses; the rest is settings."""


def build_optimizer(model: nn.Module, config: schema.Optimizer) -> torch.optim.Optimizer:
    """The optimizer in torch's fused form if it has one, with weight decay only on matrices.

    A module names in `no_weight_decay` its matrices that should not decay. The name stays with the module, while an
    attribute on the parameter would be lost in copies and conversions. Muon needs the matrices of a `Denoiser`.
    """
    undecayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        undecayed |= {id(getattr(module, name)) for name in getattr(module, "no_weight_decay", ())}
    hidden: list[Tensor] = []
    if config.type == "muon":
        assert isinstance(model, Denoiser)  # checked by the rules about [training]
        hidden = model.hidden_matrices
    by_muon = set(map(id, hidden))
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in model.parameters():
        if not parameter.requires_grad or id(parameter) in by_muon:
            continue
        (free if parameter.ndim < 2 or id(parameter) in undecayed else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.type == "sgd":
        return with_zero_momentum(
            torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.betas[0], fused=True)
        )
    if config.type == "muon":
        return with_zero_momentum(MuonAndAdamW(hidden, groups, config))
    kind = torch.optim.AdamW if config.type == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def with_zero_momentum(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Set the momentum of SGD and Muon to zero where it has none yet; its first step stays bit-identical.

    Otherwise SGD's fused form allocates the momentum at the first step, and if that step is skipped, the momentum
    stays uninitialised memory.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else ():
            if optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def learning_rate_schedule(config: schema.Scheduler, *, num_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """A function from the optimizer step (from 0) to the share of the highest learning rate.

    A linear warm-up from 0.1 % takes at most a tenth of the run; the schedule's shape follows. "plateau" is constant
    here: its decays depend on the validation loss, and `LearningRate` multiplies them in.
    """
    warmup = min(config.warmup_steps, int(num_steps * WARMUP_SHARE))
    low = config.min_lr_ratio

    def shape(step: int) -> float:
        progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
        match config.type:
            case "linear":
                return 1.0 - (1.0 - low) * progress
            case "cosine" if config.T_max:
                half_waves = (step - warmup) / (config.T_max * steps_per_epoch)
                return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * half_waves))
            case "cosine":
                cycle = progress * config.num_cycles % 1.0 if progress < 1.0 else 1.0
                return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * cycle))
            case "step":
                return max(low, config.gamma ** (step // (config.step_size * steps_per_epoch)))
            case _:
                return 1.0

    def ratio(step: int) -> float:
        if step < warmup:
            return WARMUP_START + (1.0 - WARMUP_START) * step / warmup
        return shape(step)

    return ratio


class LearningRate:
    """The learning rate of each optimizer step: the highest rate × the schedule × the decays of "plateau"."""

    def __init__(self, training: schema.Training, *, num_steps: int, steps_per_epoch: int) -> None:
        self._training, self._num_steps, self._steps_per_epoch = training, num_steps, steps_per_epoch
        self._plateau = _plateau(training.scheduler)
        self.resume(0, None)

    def __call__(self, step: int) -> float:
        """The learning rate of optimizer step `step` of the run (from 0)."""
        decay = self._plateau.optimizer.param_groups[0]["lr"] if self._plateau else 1.0
        return self._training.optimizer.learning_rate * self._share(step - self._first) * decay

    def is_dead(self, step: int) -> bool:
        """Whether decays have left rates that change no weight: in all steps from `step` on, over 5 % of the run."""
        left = self._num_steps - step
        if left < DEAD_SHARE * self._num_steps or self._training.optimizer.learning_rate < DEAD_LEARNING_RATE:
            return False  # of a rate that is too low without decays, a warning before training speaks
        return all(self(later) < DEAD_LEARNING_RATE for later in range(step, self._num_steps, max(1, left // 100)))

    def validated(self, loss: float) -> None:
        """Pass a validation loss on to "plateau"."""
        if self._plateau:
            self._plateau.step(loss)

    def state_dict(self) -> dict[str, Any] | None:
        """The state of "plateau"; None for other schedules, which depend only on the step."""
        return self._plateau.state_dict() if self._plateau else None

    def resume(self, first: int, plateau: dict[str, Any] | None) -> None:
        """Start the schedule at step `first` and span the rest of the run; restore "plateau" from a `state_dict`.

        Only the decays so far are restored: patience, factor and lowest rate are the experiment's.
        """
        self._first = first
        num_steps = max(0, self._num_steps - first)
        self._share = learning_rate_schedule(
            self._training.scheduler, num_steps=num_steps, steps_per_epoch=self._steps_per_epoch
        )
        if self._plateau and plateau:
            self._plateau.load_state_dict({name: plateau[name] for name in PLATEAU_STATE})
            [lowest] = self._plateau.min_lrs
            self._plateau.optimizer.param_groups[0]["lr"] = max(lowest, plateau["_last_lr"][0])

    def forget_best(self) -> None:
        """Make "plateau" forget its best validation loss; its decays so far stay."""
        if self._plateau:
            self._plateau.load_state_dict({"best": math.inf, "num_bad_epochs": 0})


def _plateau(scheduler: schema.Scheduler) -> ReduceLROnPlateau | None:
    """torch's plateau schedule of a separate factor, which `LearningRate` multiplies in."""
    if scheduler.type != "plateau":
        return None
    factor = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return ReduceLROnPlateau(factor, factor=scheduler.gamma, patience=scheduler.patience, min_lr=scheduler.min_lr_ratio)
