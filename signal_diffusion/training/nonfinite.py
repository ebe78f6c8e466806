"""Losses, gradients and weights that are not finite: where they are, how many, and what to do about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.sharding import local, norms_of, summed
from signal_diffusion.training.components import Components
from signal_diffusion.training.ema import Ema
from signal_diffusion.training.post_hoc_ema import PowerAverages

__all__ = ["MAX_SKIPPED", "DivergedError", "SkippingStep", "diverged", "not_finite_weights"]

MAX_SKIPPED = 20
"""Steps that may be skipped in a row. fp16's scaler halves its scale at each, from 65 536: after 17 it is below 1, and
no longer the reason."""


class DivergedError(UserError):
    """The run cannot go on with its present weights; with those of an earlier checkpoint and other noise it may."""

    problem: str = ""
    """What was not finite, without advice."""


class SkippingStep:
    """Skips optimizer steps with gradients that are not finite; decided on the device.

    torch's fused optimizers have a `found_inf` tensor, with which GradScaler makes them skip a step. Setting it without
    a scaler saves the host from waiting for the gradient's norm at each step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer, self._device = optimizer, device
        self._names: Sequence[str] = ()
        self.resume(0, 0)

    def resume(self, num_skipped: int, in_a_row: int) -> None:
        """Continue after `num_skipped` skipped steps, the last `in_a_row` of them in a row."""
        self.num_skipped = torch.full((), num_skipped, device=self._device)
        self.in_a_row = torch.full((), in_a_row, device=self._device)
        self.first_skipped = torch.full((), -1, device=self._device)
        """The first step that was skipped here and not by a scaler; -1 = none."""
        self._bad_tensors = torch.zeros((), dtype=torch.bool, device=self._device)  # of that step
        self._bad_losses = torch.zeros((), device=self._device)

    def guard(
        self,
        gradients: Mapping[str, Tensor],
        step: int,
        *,
        bad_losses: Tensor | float = 0.0,
        by_scaler: bool = False,
    ) -> Tensor:
        """Make the next `optimizer.step()` skip if the norm of its gradient is not finite; return the norm.

        With fp16, the scaler skips the step itself (`by_scaler`), which is normal; it is only counted then.

        Parameters
        ----------
        gradients
            The gradient of each tensor, by its name.
        step
            Number of the step, from 1.
        bad_losses
            How many losses of the step were not finite, on this process.
        """
        self._names = list(gradients)
        norms = norms_of(list(gradients.values()))  # (P,)
        grad_norm = torch.linalg.vector_norm(norms)
        bad = ~torch.isfinite(grad_norm)
        self.num_skipped += bad
        self.in_a_row = torch.where(bad, self.in_a_row + 1, 0)
        if not by_scaler:
            self._optimizer.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
            is_first = bad & (self.first_skipped < 0)
            self.first_skipped = torch.where(is_first, step, self.first_skipped)
            self._bad_tensors = torch.where(is_first, ~torch.isfinite(norms), self._bad_tensors)
            self._bad_losses = torch.where(is_first, bad_losses, self._bad_losses)
        return grad_norm

    def described(self, accelerator: Accelerator, accumulation: int) -> str:
        """The first skipped step and what was not finite in it; to be called on all processes."""
        tensors = [name for name, bad in zip(self._names, self._bad_tensors.tolist(), strict=True) if bad]
        losses = int(accelerator.reduce(self._bad_losses, reduction="sum").item())
        where = f"{len(tensors)} of {len(self._names)} tensors, first {tensors[0]}" if tensors else "only in total"
        batches = accumulation * accelerator.num_processes
        loss = f"the loss of {losses} of {batches} batches" if losses else "the loss was finite"
        step = int(self.first_skipped.item())
        return f"the gradient of step {step} was not finite ({where}; {loss}), so the step was skipped"


def not_finite_weights(model: nn.Module, *averages: Ema | PowerAverages | None) -> str:
    """Which of a model's trained weights and their averages are not finite, and how many; "" if all are finite."""
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    for average in averages:
        weights |= {f"ema.{name}": values for name, values in average.state_dict().items()} if average else {}
    tensors = list(weights.values())
    is_bad = ~torch.isfinite(get_total_norm([values for values in local(tensors) if values.numel()], float("inf")))
    if not summed(is_bad.int(), tensors):  # one number from the device
        return ""
    found = torch.stack([(~torch.isfinite(values)).sum() for values in local(tensors)])
    counts = dict(zip(weights, summed(found, tensors).tolist(), strict=True))
    first, *_ = bad = [name for name, count in counts.items() if count]
    return (
        f"{len(bad)} of {len(weights)} tensors, first {first} ({counts[first]:,} of {weights[first].numel():,} values)"
    )


def diverged(
    problem: str, components: Components, training: schema.Training, *, step: int, good: Path | None
) -> UserError:
    """The error for a `problem` of optimizer step `step` (from 1), with the last good checkpoint and what may help.

    A `DivergedError`, unless examples of that step's batch are not finite: other noise would not help then.
    """
    if bad := _bad_examples(components, step):
        return UserError(
            f"{problem}; examples of its batch have values that are not finite: {listed(bad)}; run `signal-diffusion "
            "data check` on the dataset, and make it again without them"
        )
    advice = ["lower training.optimizer.learning_rate"]
    if training.mixed_precision == "fp16":
        advice.append('set training.mixed_precision = "bf16"')
    if training.on_nonfinite != "rollback":
        advice.append('set training.on_nonfinite = "rollback"')
    last = f"the last good checkpoint is {good}: resume from it" if good else "there is no good checkpoint yet: restart"
    error = DivergedError(f"{problem}; {last}, and {' or '.join(advice)}")
    error.problem = problem
    return error


def _bad_examples(components: Components, step: int) -> list[str]:
    """The examples of a step, of all processes, that have values that are not finite."""
    order, examples = components.order, components.examples
    processes = (dataclasses.replace(order, process_index=rank) for rank in range(order.num_processes))
    return examples.not_finite(np.concatenate([batch for each in processes for batch in each.indices(step - 1)]))
