"""Optimizers by name, and learning rates as plain functions of the optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from signal_diffusion.config import schema

__all__ = ["SkippingStep", "build_optimizer", "learning_rate_schedule"]

WARMUP_START = 1e-3
WARMUP_SHARE = 0.1


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
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.betas[0], fused=True)
    kind = torch.optim.AdamW if config.type == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)


def learning_rate_schedule(config: schema.Scheduler, *, num_steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """Share of the highest learning rate at optimizer step `step` (from 0).

    A linear warm-up from 0.1 % takes at most a tenth of the run; the shapes follow it. "plateau" is constant here:
    its decays depend on the validation loss, and the trainer multiplies them in.
    """
    warmup = min(config.warmup_steps, int(num_steps * WARMUP_SHARE))
    low = config.min_lr_ratio

    def shape(step: int) -> float:
        progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
        match config.type:
            case "linear":
                return 1.0 - (1.0 - low) * progress
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


class SkippingStep:
    """Optimizer steps that change nothing where the gradient is not finite, decided on the device.

    torch's fused optimizers take a `found_inf` tensor, through which GradScaler has them leave weights and state
    alone; used here without a scaler, it saves the host from waiting for the gradient's norm at each step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer
        self.num_skipped = torch.zeros((), device=device)
        self.first_skipped = torch.full((), -1, dtype=torch.int64, device=device)

    def guard(self, grad_norm: Tensor, step: int) -> None:
        """Arm the next `optimizer.step()` with the norm of the gradient that it is going to use."""
        bad = ~torch.isfinite(grad_norm)
        self._optimizer.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
        self.num_skipped += bad
        self.first_skipped = torch.where(bad & (self.first_skipped < 0), step, self.first_skipped)
