"""The contract of every backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from signal_diffusion.models.conditioning import Conditioning

__all__ = ["Denoiser"]


class Denoiser(nn.Module, ABC):
    """A network `forward(x, t, cond) -> prediction`, which has the shape of x."""

    num_tokens: int
    """Tokens per example at the input of the first block."""
    gradient_checkpointing: bool = False
    """Whether blocks are computed again in the backward pass instead of being kept."""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The repeated parts: the units of compilation (in place) and of gradient checkpointing."""

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction for x (B, C, H, W) at the times t (B,) in [0, 1], 0 being data and 1 noise."""
