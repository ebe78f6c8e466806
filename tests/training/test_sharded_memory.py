"""The estimate of memory under FSDP2 against PyTorch's own count of tensors, without GPUs or weights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed import device_mesh
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.testing._internal.distributed.fake_pg import FakeStore

from signal_diffusion.config import schema
from signal_diffusion.experiment.memory import FP32, gathered_bytes
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.sharding import shard
from signal_diffusion.training.optimizers import build_optimizer
from tests.models.tiny import tiny

PROCESSES = 4


@pytest.fixture
def four_processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first of four processes, whose messages go nowhere."""
    dist.init_process_group("fake", rank=0, world_size=PROCESSES, store=FakeStore())
    mesh = device_mesh.init_device_mesh("cpu", (PROCESSES,))  # cannot be made of fake tensors
    monkeypatch.setattr(device_mesh, "init_device_mesh", lambda *arguments: mesh)
    yield
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
def test_weights_and_gradients_take_what_the_estimate_says(bf16: bool, four_processes: None) -> None:
    """Of a dit with gradient checkpointing, whose activations are small, after a forward and a backward pass."""
    with FakeTensorMode():
        model = tiny("dit", (1, 8, 8), num_layers=8, num_attention_heads=8, attention_head_dim=64)
        model.checkpoint_gradients()
        blocks = [sum(weight.numel() for weight in block.parameters()) for block in model.blocks]
        total = sum(weight.numel() for weight in model.parameters())
        shard(model, model.blocks, torch.device("cpu"), reshard_after_forward=True)
        x, t = torch.zeros(1, 1, 8, 8), torch.zeros(1)
        tracker = FSDPMemTracker(model, build_optimizer(model, schema.Optimizer()))
        tracker.track_inputs((x, t))
        with tracker:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16, cache_enabled=False):  # as in training
                loss = model(x, t, Conditioning({})).float().square().mean()
            loss.backward()
    found = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"]
    split = 2 * FP32 * total / PROCESSES
    assert found == pytest.approx(split + gathered_bytes(blocks, total - sum(blocks)), rel=0.15)
    assert found < 0.75 * 2 * FP32 * total
