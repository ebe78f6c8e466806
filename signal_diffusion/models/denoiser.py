"""The interface that every backbone implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from signal_diffusion.config.types import MAX_WIDTH
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Caption, Conditioning
from signal_diffusion.models.conditioning.embeddings import HasCaptions

__all__ = ["Denoiser", "check_heads"]


class Denoiser(nn.Module, ABC):
    """A network `forward(x, t, cond) -> prediction`; the prediction has the shape of x.

    In every conditional backbone, the attribute `conditioning` is the module that embeds the conditions. A backbone
    that is registered with `takes_known` accepts `known` in `__init__`, sets `takes_known` to it, and passes its input
    through `with_known`. One that is registered with `takes_places` accepts `places`, and with them embeds electrodes
    by a `PlaceEmbedding`; then nothing else in it depends on the number of rows or on their order.
    """

    num_tokens: int
    """Tokens per example at the input of the first block."""
    lora_targets: tuple[str, ...] = ()
    """Endings of the names of the linear layers that LoRA adapts; () = not a transformer, so no LoRA."""
    condition_layers: tuple[str, ...] = ()
    """Endings of the names of the linear layers in blocks that are applied to the condition, not to tokens."""
    takes_known: bool = False
    """Whether its input contains what is given of the examples."""
    gradient_checkpointing: bool = False
    """Whether activations inside blocks are recomputed in the backward pass instead of stored."""

    @staticmethod
    def check(architecture: Any) -> None:
        """Raise a `UserError` if values of an architecture contradict each other, whatever the shape of examples."""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """The repeated parts: the units of compilation (in place) and of gradient checkpointing."""

    @property
    def hidden_matrices(self) -> list[Tensor]:
        """The trained matrices that blocks apply to tokens."""
        linear = [(name, each) for name, each in self.blocks.named_modules() if isinstance(each, nn.Linear)]
        weights = [each.weight for name, each in linear if not name.endswith(self.condition_layers)]
        return [weight for weight in weights if weight.requires_grad]

    @property
    def kernels(self) -> dict[str, str]:
        """The backend of each expensive operation on the network's device; {} if everything is plain PyTorch."""
        return {}

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The prediction for x (B, C, H, W) at the times t (B,) in [0, 1], where 0 is data and 1 is noise."""

    def hold_captions(self, caption: Caption) -> None:
        """Replace the captions that the network was built with by others from the same text encoder."""
        device = next(self.parameters()).device
        for module in self.modules():
            if isinstance(module, HasCaptions):
                module.set_captions(caption)
                module.to(device)

    def with_known(self, x: Tensor, cond: Conditioning) -> Tensor:
        """The network's input: x (B, C, H, W), or (B, 2C, H, W) with given values in their places and their mask."""
        known = cond.known
        if not self.takes_known:
            if known is not None:
                raise ValueError("the network was built without `known`, and cannot take given values")
            return x
        if known is None:
            return torch.cat([x, torch.zeros_like(x)], dim=1)
        return torch.cat([known.inserted(x), known.mask.to(x.dtype)], dim=1)

    def checkpoint_gradients(self) -> None:
        """Turn gradient checkpointing on."""
        self.gradient_checkpointing = True

    def apply_block(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """Return `block(*inputs)`; with gradient checkpointing, the backward pass recomputes it."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)


def check_heads(num_heads: int, head_dim: int) -> None:
    """Raise a `UserError` if a transformer cannot be as wide as its heads together."""
    if (width := num_heads * head_dim) % 4 or width > MAX_WIDTH:
        raise UserError(
            f"num_attention_heads × attention_head_dim = {width}: expected a multiple of 4, for the sines and cosines "
            f"of rows and columns, of at most {MAX_WIDTH}"
        )
