"""Optimizers by name, and learning rates as plain functions of the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from signal_diffusion.config import schema

__all__ = ["LearningRate", "SkippingStep", "build_optimizer", "learning_rate_schedule", "with_momentum"]

WARMUP_START = 1e-3
WARMUP_SHARE = 0.1
PLATEAU_STATE = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")
"""Of torch's schedule, what has come of the losses; all else of its state is settings."""


def build_optimizer(model: nn.Module, config: schema.Optimizer) -> torch.optim.Optimizer:
    """The optimizer in torch's fused form, with weight decay on matrices alone.

    A module says in `no_weight_decay` which of its own parameters are none, whatever their shape: the name stays with
    the module, while a mark on the parameter would be lost to copies and conversions.
    """
    undecayed = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for module in model.modules():
        undecayed |= {id(getattr(module, name)) for name in getattr(module, "no_weight_decay", ())}
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
        (free if parameter.ndim < 2 or id(parameter) in undecayed else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.type == "sgd":
        return with_momentum(torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.betas[0], fused=True))
    kind = torch.optim.AdamW if config.type == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def with_momentum(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """An optimizer whose momentum, where SGD has none yet, is zero: its first step is the same to the bit.

    Without it, torch's fused form allocates the momentum at the first step and leaves it as it is, which is anything,
    where that step is skipped.
    """
    if isinstance(optimizer, torch.optim.SGD):
        for group in optimizer.param_groups:
            for parameter in group["params"] if group["momentum"] else ():
                if optimizer.state[parameter].get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def learning_rate_schedule(config: schema.Scheduler, *, num_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Share of the highest learning rate at optimizer step `step` (from 0).

    A linear warm-up from 0.1 % takes at most a tenth of the run; the shapes follow it. "plateau" is constant here:
    its decays depend on the validation loss, and `LearningRate` multiplies them in.
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
    """The learning rate of each optimizer step: the highest one, by its schedule, by the decays of "plateau"."""

    def __init__(self, training: schema.Training, *, num_steps: int, steps_per_epoch: int) -> None:
        self._training, self._num_steps, self._steps_per_epoch = training, num_steps, steps_per_epoch
        self._plateau = _plateau(training.scheduler)
        self.resume(0, None)

    def __call__(self, step: int) -> float:
        """The rate of step `step`, from 0, of the run."""
        decay = self._plateau.optimizer.param_groups[0]["lr"] if self._plateau else 1.0
        return self._training.optimizer.learning_rate * self._share(step - self._first) * decay

    def validated(self, loss: float) -> None:
        """Watch the validation loss, for "plateau"."""
        if self._plateau:
            self._plateau.step(loss)

    def state_dict(self) -> dict[str, Any] | None:
        """Where "plateau" stands; None for all others, which follow from the step."""
        return self._plateau.state_dict() if self._plateau else None

    def resume(self, first: int, plateau: dict[str, Any] | None) -> None:
        """Span the steps from `first` to the last, counted from there; with the decays of a `state_dict`, if any.

        How "plateau" decays from here on is the experiment's to say.
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
        """Have "plateau" hold the next validation loss against none before it; its decays so far stay."""
        if self._plateau:
            self._plateau.load_state_dict({"best": math.inf, "num_bad_epochs": 0})


def _plateau(scheduler: schema.Scheduler) -> ReduceLROnPlateau | None:
    """torch's plateau schedule over a factor of its own, which multiplies the learning rate."""
    if scheduler.type != "plateau":
        return None
    factor = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    return ReduceLROnPlateau(factor, factor=scheduler.gamma, patience=scheduler.patience, min_lr=scheduler.min_lr_ratio)


class SkippingStep:
    """Optimizer steps that change nothing where the gradient is not finite, decided on the device.

    torch's fused optimizers take a `found_inf` tensor, through which GradScaler has them leave weights and state
    alone; used here without a scaler, it saves the host from waiting for the gradient's norm at each step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer
        self.num_skipped = torch.zeros((), device=device)
        self.first_skipped = torch.full((), -1, dtype=torch.int64, device=device)

    def guard(self, grad_norm: Tensor, step: int, *, by_scaler: bool = False) -> None:
        """Arm the next `optimizer.step()` with the norm of the gradient that it is going to use.

        Of a step that fp16's scaler guards, it is counted alone whether it is skipped: there, that is usual.
        """
        bad = ~torch.isfinite(grad_norm)
        self.num_skipped += bad
        if by_scaler:
            return
        self._optimizer.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
        self.first_skipped = torch.where(bad & (self.first_skipped < 0), step, self.first_skipped)
