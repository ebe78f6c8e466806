"""The machine that is measured on: what it is, and what it can do at most."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import torch

from signal_diffusion.benchmarks.measuring import Variant
from signal_diffusion.training.device import cpu_has_bf16

__all__ = ["ceilings", "default_device", "default_precision", "description", "dtype_of"]

PRODUCT_SIZE = {"cpu": 2048}
"""Rows and columns of the matrices of the ceiling, on each kind of device."""
LARGE = 8192
"""The same on others than these."""
COPIED_BYTES = 2**28
"""More than any cache holds."""


def default_device() -> torch.device:
    """The accelerator of this machine, or its CPU."""
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return kind or torch.device("cpu")


def default_precision(device: torch.device) -> str:
    """bf16 where the device computes in it, otherwise fp32: as in a run."""
    return "bf16" if device.type == "cuda" or (device.type == "cpu" and cpu_has_bf16()) else "fp32"


def dtype_of(precision: str) -> torch.dtype:
    """The type of matrix products under fp32 (or "no"), bf16 or fp16."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)


def ceilings(device: torch.device, dtype: torch.dtype) -> list[Variant]:
    """The largest rates of this machine: of matrix products, square and large, and of copies in memory."""
    size = PRODUCT_SIZE.get(device.type, LARGE)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source, target = (torch.zeros(COPIED_BYTES, dtype=torch.uint8, device=device) for _ in range(2))
    return [
        Variant(name=f"ceiling: {str(dtype).removeprefix('torch.')} products", call=lambda: a @ b, flops=2 * size**3),
        Variant(name="ceiling: copies", call=lambda: target.copy_(source), bytes=2 * COPIED_BYTES),
    ]


def description() -> dict[str, str | int]:
    """What to say about this machine next to figures that were measured on it."""
    found: dict[str, str | int] = {"processor": _processor()}
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found | {
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    """The name of the CPU, which `platform` knows on other systems than Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
