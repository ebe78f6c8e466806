"""The contract of every backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from signal_diffusion.models.conditioning.attributes import Caption, Conditioning
from signal_diffusion.models.conditioning.embeddings import HoldsCaptions

__all__ = ["Denoiser"]


class Denoiser(nn.Module, ABC):
    """A network `forward(x, t, cond) -> prediction`, which has the shape of x.

    What embeds conditions is called `conditioning`, in every backbone that has conditions.
    """

    num_tokens: int
    """Tokens per example at the input of the first block."""
    lora_targets: tuple[str, ...] = ()
    """Names (their last parts) of the linear layers that LoRA adapts; () = not a transformer, and no LoRA."""
    gradient_checkpointing: bool = False
    """Whether blocks are computed again in the backward pass instead of being kept."""

    @staticmethod
    def check(architecture: Any) -> None:
        """Raise a `UserError` where numbers of an architecture contradict each other, whatever the examples are."""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The repeated parts: the units of compilation (in place) and of gradient checkpointing."""

    @property
    def kernels(self) -> dict[str, str]:
        """Backends of this network's costly operations on its device, by operation; {} if all is plain PyTorch."""
        return {}

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction for x (B, C, H, W) at the times t (B,) in [0, 1], 0 being data and 1 noise."""

    def hold_captions(self, caption: Caption) -> None:
        """Put other captions, by the same encoder, in the place of those that the network was built with."""
        device = next(self.parameters()).device
        for module in self.modules():
            if isinstance(module, HoldsCaptions):
                module.hold(caption)
                module.to(device)

    def checkpoint_gradients(self) -> None:
        """Turn gradient checkpointing on."""
        self.gradient_checkpointing = True

    def run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """`block(*inputs)`, which is computed again in the backward pass under gradient checkpointing."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)
