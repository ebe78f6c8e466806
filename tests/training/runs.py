"""Read a run's checkpoints and metrics as numbers, to compare runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def tensors_of(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint: weights, averages, optimizer state, learning rates, losses since the last log."""
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
    """The largest absolute difference of two checkpoints, which must contain tensors of the same names."""
    a, b = tensors_of(first), tensors_of(second)
    assert a.keys() == b.keys() and len(a) > 30
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics, without values that depend on the machine's speed."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]
