"""What the training loop is given: a network, an objective, examples, and what happens between steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion import checkpoints
from signal_diffusion.data.loaders import Batch, ExampleOrder, Examples

__all__ = ["Components", "Objective", "Trainable"]


class Trainable(Protocol):
    """What the loop needs of a network, apart from being an `nn.Module`."""

    @property
    def blocks(self) -> nn.ModuleList:
        """The units of compilation."""

    def checkpoint_gradients(self) -> None:
        """Turn gradient checkpointing on."""


class Objective(Protocol):
    """The training loss."""

    def __call__(
        self, network: nn.Module, batch: Batch, generator: torch.Generator, part: tuple[int, int] = (0, 1)
    ) -> Tensor:
        """The mean loss of a batch on the device, by one forward pass of `network`, the prepared model.

        All randomness has to come from `generator`, which is seeded per batch. `part` is the number of this batch among
        those of its optimizer step, over all processes, and how many these are.
        """


@dataclass(frozen=True, kw_only=True)
class Components:
    """What a trainer needs; built by the entry point, which is the only part that sees the whole experiment."""

    model: Trainable
    objective: Objective
    examples: Examples
    order: ExampleOrder
    validation: Callable[[nn.Module, Accelerator, Callable[[], None]], dict[str, float]] | None
    """Validation metrics, "loss" among them. The last argument is called before each evaluation, and may raise."""
    previews: Callable[[nn.Module, Accelerator, int, Callable[[], None]], dict[str, Path]] | None
    """Draws the preview images of a step and returns their paths by name."""
    attachments: Mapping[str, str]
    """Text files to put into every checkpoint, such as the dataset's card."""
    exported: Callable[[nn.Module], Mapping[str, checkpoints.Writer]] = lambda model: {}
    """Further files of a checkpoint; called with the averaged weights in the model."""
    comparison: Callable[[nn.Module, Accelerator, Callable[[], None]], dict[str, float]] | None = None
    """Further validation metrics, like `validation`; with an average, only of the averaged weights."""
    has_many_shapes: bool = False
    """Whether batches reach the network in parts of many shapes, because they are split by montage."""
