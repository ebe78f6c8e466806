"""Gradients that are not finite: their steps are skipped."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SkippingStep"]


class SkippingStep:
    """Skips optimizer steps with gradients that are not finite; decided on the device.

    torch's fused optimizers have a `found_inf` tensor, with which GradScaler makes them skip a step. Setting it without
    a scaler saves the host from waiting for the gradient's norm at each step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._optimizer = optimizer
        self.num_skipped = torch.zeros((), device=device)
        self.first_skipped = torch.full((), -1, dtype=torch.int64, device=device)

    def guard(self, grad_norm: Tensor, step: int, *, by_scaler: bool = False) -> None:
        """Make the next `optimizer.step()` skip if the norm of its gradient is not finite.

        With fp16, the scaler skips the step itself (`by_scaler`), which is normal; it is only counted then.
        """
        bad = ~torch.isfinite(grad_norm)
        self.num_skipped += bad
        if by_scaler:
            return
        self._optimizer.found_inf = bad.to(torch.float32)  # type: ignore[attr-defined]
        self.first_skipped = torch.where(bad & (self.first_skipped < 0), step, self.first_skipped)
