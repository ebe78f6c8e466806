"""How much of the free memory a piece of training takes at its peak, measured on the device that it runs on."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import torch

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.cgroups import memory_limit
from signal_diffusion.experiment.memory import GIB

__all__ = ["Allowance", "bytes_used", "measure_peak", "reset_resident_peak", "resident_peak"]

SHARE = {"cuda": 0.9, "cpu": 0.8}
"""Of the free memory, what training may take. The rest is for fragments on a GPU, and on a CPU for other programs."""


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """The memory of a device that training may take, in bytes."""

    device: torch.device
    used: int
    """What this process used before."""
    size: int
    """What it may take in addition."""

    @classmethod
    def now(cls, device: torch.device) -> Self:
        """Of the memory that is free now, the part that leaves a margin.

        Raises
        ------
        UserError
            If memory cannot be measured on this device.
        """
        if device.type not in SHARE or (device.type == "cpu" and sys.platform != "linux"):
            raise UserError(
                f"--batch-size auto: measures memory on CUDA devices and, under Linux, on CPUs, but not on "
                f"{device.type}; leave it out, and set data.loading.batch_size"
            )
        used = bytes_used(device)
        return cls(device=device, used=used, size=max(1, int(SHARE[device.type] * _bytes_free(device, used))))

    def share(self, used: float) -> float:
        """The share of this allowance that a process takes which uses so many bytes; more than 1 is too much."""
        return (used - self.used) / self.size

    def __str__(self) -> str:
        """The size, and what it is a part of."""
        where = "the GPU's" if self.device.type == "cuda" else "the machine's"
        return f"{self.size / GIB:.2f} GiB ({SHARE[self.device.type]:.0%} of {where} free memory)"


def measure_peak(device: torch.device, step: Callable[[], object]) -> int:
    """The most bytes that this process uses, or has reserved on a GPU, during a call of `step`.

    Raises
    ------
    RuntimeError
        If memory runs out; `accelerate.utils.memory.should_reduce_batch_size` tells it from other errors.
    """
    bytes_used(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_reserved(device)
    reset_resident_peak()
    step()
    return resident_peak()


def reset_resident_peak() -> None:
    """Let `resident_peak` begin now; an `OSError` if this is not Linux, or not allowed."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def resident_peak() -> int:
    """The most resident memory of this process, bytes, as Linux reports it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def bytes_used(device: torch.device) -> int:
    """What this process uses, or has reserved on a GPU, after giving back what it has freed."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(device)
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc keeps small pieces that were freed
        libc.malloc_trim(0)
    return psutil.Process().memory_info().rss


def _bytes_free(device: torch.device, used: int) -> int:
    """What no process uses of a GPU's memory, or this process's part of what is free in the machine or container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun and accelerate
    free = psutil.virtual_memory().available // processes
    limit = memory_limit()
    return min(free, limit // processes - used) if limit else free
