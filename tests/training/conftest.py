"""A tiny experiment, runs of it, and what a run leaves behind as numbers to compare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

TINY = """
[compute]
device = "cpu"
[data.paths]
root = "{root}"
[data.loading]
batch_size = 8
max_train_examples = 100
[model.architecture]
num_layers = 2
num_attention_heads = 2
attention_head_dim = 8
patch_size = [16, 16]
dropout_rate = 0.1
[model.diffusion]
method = "rectified_flow"
[model.conditioning]
type = "class"
[training]
max_steps = 15
mixed_precision = "no"
gradient_accumulation_steps = 2
log_interval = 4
[training.optimizer]
learning_rate = 1e-2
[training.ema]
update_every = 2
[training.checkpointing]
interval = 1
total_limit = 100
[training.validation]
interval = 4
num_examples = 24
[training.visualization]
enabled = false
[generation.sampling]
steps = 2
[logging]
tensorboard = false
"""


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps its state for the life of a process; each test is one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def experiment_file(synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of a few steps: 6 steps of 2 × 8 of 100 examples make an epoch."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.toml"
    path.write_text(TINY.format(root=synthetic_dataset))
    return path


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint: weights, averages, optimizer state; and the numbers of its progress."""
    tensors = {f"model.{name}": value for name, value in load_file(checkpoint / "model.safetensors").items()}
    tensors |= {f"ema.{name}": value for name, value in load_file(checkpoint / "ema.safetensors").items()}
    optimizer = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    for index, state in optimizer["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    for index, group in enumerate(optimizer["param_groups"]):
        tensors[f"lr.{index}"] = torch.tensor(group["lr"], dtype=torch.float64)
    progress = json.loads((checkpoint / "progress.json").read_text())
    tensors["losses"] = torch.tensor(progress["losses"], dtype=torch.float64)
    return tensors


def largest_difference(first: Path, second: Path) -> float:
    """Between any two tensors of the same name in two checkpoints, which have to have the same ones."""
    a, b = tensors_of(first), tensors_of(second)
    assert a.keys() == b.keys() and len(a) > 30
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics, without those that depend on the machine's speed."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]


RunFactory = Callable[..., Path]
