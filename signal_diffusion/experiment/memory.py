"""Whether a run fits into the memory of this machine, by the estimate that `config check` prints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil
import torch

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.cgroups import memory_limit

__all__ = ["Memory", "check_memory", "gathered_bytes", "state_bytes"]

FP32 = 4  # bytes per value
COPIES = {"adamw": 2, "adam": 2, "sgd": 1, "muon": 2}  # values of optimizer state per trained weight
POST_HOC = 2  # averages that post-hoc EMA is made of
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory that training takes on each process, in bytes."""

    state: int
    """Weights and lookup tables in fp32, and the gradients, optimizer state and averages of the trained weights."""
    activations: int
    """What the forward pass of one batch keeps for the backward pass."""
    whole: int = 0
    """Of the state, what FSDP2 does not split over processes: lookup tables, and an autoencoder that is not trained."""
    gathered: int = 0
    """What a process has at once, under FSDP2, of weights and gradients that are not its part."""

    def sharded(self, num_processes: int) -> Memory:
        """The memory under FSDP2, which splits weights, gradients, optimizer state and averages over processes."""
        split = -(-(self.state - self.whole) // num_processes)
        return replace(self, state=split + self.whole + self.gathered)

    def __str__(self) -> str:
        """The sum and its parts."""
        return (
            f"about {(self.state + self.activations) / GIB:.2f} GiB per process: {self.state / GIB:.2f} for weights, "
            f"gradients, optimizer and EMA, {self.activations / GIB:.2f} for activations"
        )


def state_bytes(training: schema.Training, *, weights: int, trained: int, hidden: int = 0) -> int:
    """`Memory.state` of a network with so many weights, and values in tables, of which some are trained.

    Muon keeps only the momentum of the `hidden` matrices.
    """
    moments = trained * COPIES[training.optimizer.type] - hidden * (training.optimizer.type == "muon")
    averages = training.ema.enabled * (1 + POST_HOC * training.ema.post_hoc)
    return (weights + trained * (1 + averages) + moments) * FP32


def gathered_bytes(block_sizes: Sequence[int], rest: int) -> int:
    """`Memory.gathered` of a network with so many weights in each block, and in the rest of it.

    A block's weights and gradients, the gradients of the one before, which are being sent, and the weights of the next
    one, which are being fetched; the rest stays from the forward to the end of the backward pass.
    """
    return (4 * max(block_sizes, default=0) + 2 * rest) * FP32


def check_memory(needed: Memory, device: torch.device, *, checkpoints_gradients: bool) -> None:
    """Check that the accelerator, or for a CPU the machine and this job or container, has the memory for training.

    Raises
    ------
    UserError
        If it has less, also with nothing else in it: with the estimate, and what to change.
    """
    if device.type == "cuda":
        processes, name, size = 1, "the GPU", torch.cuda.get_device_properties(device).total_memory
    else:
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun and accelerate
        name, size = "the machine", psutil.virtual_memory().total
        if (limit := memory_limit()) and limit < size:
            name, size = "this job or container (its cgroup)", limit
    if processes * (needed.state + needed.activations) <= size:
        return
    for_all = f" for {processes} processes" if processes > 1 else ""
    if needed.activations < needed.state:
        key, advice = "[model] architecture", "use a smaller network"
    else:
        key, advice = "[data.loading] batch_size", "use a smaller one with more training.gradient_accumulation_steps"
        advice += "" if checkpoints_gradients else ", or training.gradient_checkpointing = true"
    raise UserError(
        f"{key}: training takes {needed}, but {name} has {size / GIB:.2f} GiB{for_all}; {advice}, or --force"
    )
