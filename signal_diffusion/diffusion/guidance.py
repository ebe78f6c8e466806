"""Guidance: how strongly a sample follows its conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from signal_diffusion.diffusion.samplers import Denoise

__all__ = ["Droppable", "classifier_free"]


class Droppable(Protocol):
    """Conditions of a batch that can be put to their learnt null."""

    def drop(self, mask: Tensor) -> Self:
        """The null in the rows of `mask`, (B,) bool."""


C = TypeVar("C", bound=Droppable)


def classifier_free(model: Callable[[Tensor, Tensor, C], Tensor], cond: C, scale: float) -> Denoise:
    """A `denoise` for samplers, of the prediction u + w·(c − u) with w = `scale`.

    c is the prediction under `cond` and u that of the same model with every condition dropped. 1 is the
    conditional model, at no second pass; 0 the unconditional one; above 1 overstates the condition. As
    predictions are linear in (x0, ε), guiding any of them guides x0 and ε alike.

    Ho & Salimans, https://arxiv.org/abs/2207.12598 (whose w is ours minus 1)
    """

    def denoise(xt: Tensor, t: Tensor) -> Tensor:
        conditional = model(xt, t, cond)
        if scale == 1:
            return conditional
        everything = torch.ones(len(xt), dtype=torch.bool, device=xt.device)
        unconditional = model(xt, t, cond.drop(everything)).float()
        return unconditional + scale * (conditional.float() - unconditional)

    return denoise
