"""The device that an experiment is trained on, and the numerical precision."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.errors import UserError

__all__ = ["accelerator_of", "cpu_has_bf16"]


def accelerator_of(experiment: schema.Experiment | AutoencoderExperiment) -> Accelerator:
    """An `Accelerator` for this process, with the experiment's device and precision.

    On a CPU without bf16 instructions, fp32 replaces bf16: torch would emulate it several times slower.

    Raises
    ------
    UserError
        If this machine has no such device, or the device no such precision.
    """
    device, performance = experiment.compute.device, experiment.training.performance
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("[compute] device: 'cuda', but torch finds no CUDA device; use 'auto' or 'cpu'")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("[compute] device: 'mps', but torch finds no MPS device; use 'auto' or 'cpu'")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = performance.use_tf32
    torch.backends.cudnn.benchmark = True
    torch.autograd.set_detect_anomaly(experiment.debug.detect_anomaly)
    if experiment.training.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("[training] mixed_precision: 'fp16' needs a CUDA device; use 'bf16' or 'no'")
    on_cpu = device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    emulated = on_cpu and experiment.training.mixed_precision == "bf16" and not cpu_has_bf16()
    accelerator = Accelerator(
        mixed_precision="no" if emulated else experiment.training.mixed_precision,
        cpu=on_cpu,
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)],
    )
    in_bf16_on_cuda = accelerator.device.type == "cuda" and accelerator.mixed_precision == "bf16"
    if in_bf16_on_cuda and not torch.cuda.is_bf16_supported(including_emulation=False):
        accelerator.print(
            "this GPU does not support bf16, which torch emulates slowly; mixed_precision = 'fp16' is faster"
        )
    if emulated:
        accelerator.print("this CPU does not support bf16, and emulating it would be slow; computing in fp32")
    return accelerator


def cpu_has_bf16() -> bool:
    """Whether the CPU has bf16 matrix instructions (AVX-512 BF16, AMX, ARM); True if torch cannot say."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return True
    return any(there for name, there in torch.cpu.get_capabilities().items() if name.endswith("bf16"))
