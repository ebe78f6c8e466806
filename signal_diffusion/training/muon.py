"""Muon for the hidden matrices of a network and AdamW for the rest, both torch's own, as one optimizer.

Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/) steps along the nearest orthogonal matrix of the
momentum. It is meant for matrices inside a network; embeddings, the first and the last layer, gains and biases stay
with AdamW. The steps of both have the same root mean square (Liu et al., https://arxiv.org/abs/2502.16982), so one
learning rate and one weight decay serve both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from signal_diffusion.config import schema

__all__ = ["MuonAndAdamW"]


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon with torch's defaults (momentum 0.95, Nesterov, 5 iterations) and fused AdamW.

    The first parameter group is Muon's. Both work on the groups and the state of this object, so that whatever replaces
    these, such as `load_state_dict`, applies to both.

    Parameters
    ----------
    hidden
        Matrices for Muon.
    others
        Parameter groups for AdamW, with their weight decay.
    """

    def __init__(self, hidden: Sequence[Tensor], others: Sequence[dict[str, Any]], config: schema.Optimizer) -> None:
        muon = torch.optim.Muon(
            hidden, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        adamw = torch.optim.AdamW(others, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._muon, self._adamw = muon, adamw

    def step(self, closure: Any = None) -> Any:
        """Take a step of both, or of neither if `found_inf`, which torch's fused optimizers also obey, is not 0."""
        # torch's Muon cannot skip on the device, so the host waits here for the gradient's norm
        if (found_inf := getattr(self, "found_inf", None)) is not None and found_inf.item():
            return
        for part, groups in ((self._muon, self.param_groups[:1]), (self._adamw, self.param_groups[1:])):
            part.param_groups, part.state = groups, self.state
            part.step()
