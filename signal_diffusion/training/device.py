"""The device that an experiment is trained on, and the numerical precision."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, DistributedDataParallelKwargs, patch_environment

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.errors import UserError

__all__ = ["Sharding", "accelerator_of", "cpu_has_bf16"]


@dataclass(frozen=True, kw_only=True)
class Sharding:
    """How `accelerate launch` wants the model split over processes by FSDP2."""

    reshard_after_forward: bool
    """Free gathered weights after the forward pass (ZeRO-3), or keep them for the backward pass (ZeRO-2)."""

    @classmethod
    def wanted(cls, experiment: schema.Experiment | AutoencoderExperiment) -> Sharding | None:
        """What the variables say that `accelerate launch` sets; None for no sharding.

        Raises
        ------
        UserError
            If they ask for DeepSpeed, FSDP 1 or offloading, or for FSDP of what cannot be sharded.
        """
        if _is_set("ACCELERATE_USE_DEEPSPEED"):
            raise UserError(
                "accelerate's distributed_type: DEEPSPEED, whose engine takes steps, clips and skips by itself; use "
                "config/accelerate/zero2.yaml, which splits the same over processes by FSDP2"
            )
        if not _is_set("ACCELERATE_USE_FSDP"):
            return None
        if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
            raise UserError(f"accelerate's fsdp_version: {version}; expected 2, as in config/accelerate/fsdp2.yaml")
        if _is_set("FSDP_OFFLOAD_PARAMS"):
            raise UserError("accelerate's fsdp_offload_params: true; expected false: weights stay on the device")
        if _is_set("FSDP_ACTIVATION_CHECKPOINTING"):
            raise UserError(
                "accelerate's fsdp_activation_checkpointing: true; expected false, and in the experiment file "
                "training.gradient_checkpointing = true"
            )
        if isinstance(experiment, AutoencoderExperiment):
            raise UserError(
                "accelerate's distributed_type: FSDP, but autoencoders are only trained whole on each process; use "
                "config/accelerate/one-node.yaml"
            )
        if experiment.training.optimizer.type == "sgd":
            raise UserError("[training.optimizer] type: 'sgd' cannot be sharded by PyTorch; use 'adamw' under FSDP")
        return cls(reshard_after_forward=_is_set("FSDP_RESHARD_AFTER_FORWARD", "true"))


def _is_set(name: str, default: str = "false") -> bool:
    return os.environ.get(name, default).lower() in ("true", "1", "full_shard")


def accelerator_of(
    experiment: schema.Experiment | AutoencoderExperiment, sharding: Sharding | None = None
) -> Accelerator:
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
    handlers = [DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)]
    if sharding:  # autocast would keep a bf16 copy of all weights to the end of the forward pass
        handlers.append(AutocastKwargs(cache_enabled=False))
    with patch_environment(accelerate_use_fsdp="false"):  # the trainer shards itself, which works on any device
        accelerator = Accelerator(
            mixed_precision="no" if emulated else experiment.training.mixed_precision,
            cpu=on_cpu,
            kwargs_handlers=handlers,
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
