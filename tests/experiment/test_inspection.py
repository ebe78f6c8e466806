"""The cost of an experiment, which is the same whether its forward pass is computed or simulated."""

from __future__ import annotations

import json
import resource
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from signal_diffusion.experiment import measuring
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.measuring import kept_bytes
from signal_diffusion.experiment.resolving import resolve
from tests.models.tiny import IMAGES


def with_backbone(experiment_file: Path, name: str, folder: Path) -> Path:
    """The tiny experiment with another backbone."""
    head, rest = experiment_file.read_text().split("[model.architecture]")
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in IMAGES[name].items())
    tail = rest.partition("[model.diffusion]")[2]
    path = folder / f"{name}.toml"
    path.write_text(f'{head}[model]\nname = "{name}"\n[model.architecture]\n{table}\n[model.diffusion]{tail}')
    return path


@pytest.mark.parametrize("backbone", IMAGES)
def test_a_computed_and_a_simulated_forward_pass_cost_the_same(
    backbone: str, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = with_backbone(experiment_file, backbone, tmp_path)
    resolved = resolve(load_experiment(file, ["training.mixed_precision=bf16"]))

    computed = inspect(resolved)
    monkeypatch.setattr(measuring, "MAX_PARAMETERS", 0)
    simulated = inspect(resolved)

    # a norm of bf16 keeps its statistics in bf16 in the simulation, in fp32 on a CPU
    assert simulated.memory.activations == pytest.approx(computed.memory.activations, rel=0.01)
    assert simulated.memory.state == computed.memory.state
    assert replace(simulated, memory=computed.memory) == computed


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.loading.batch_size=65536", "data.loading.drop_last=false"],
        ["model.architecture.num_layers=12", "model.architecture.attention_head_dim=2048"],
        ["model.architecture.patch_size=[1, 1]", "model.architecture.attention_head_dim=4096"],
    ],
    ids=["batch", "layers", "tokens"],
)
def test_a_large_experiment_is_measured_in_little_memory(overrides: list[str], experiment_file: Path) -> None:
    resolved = resolve(load_experiment(experiment_file, overrides))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    found = inspect(resolved)
    assert found.memory.state + found.memory.activations > 2**32
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19


def test_the_activations_that_were_counted_are_freed() -> None:
    outputs: list[weakref.ref[Tensor]] = []
    network = nn.Sequential(nn.Linear(8, 16), nn.Sigmoid())  # whose gradient needs its output
    network.register_forward_hook(lambda module, inputs, output: outputs.append(weakref.ref(output)))
    assert kept_bytes(network, torch.zeros(4, 8), bf16=False) == 4 * 4 * (8 + 16)
    [output] = outputs
    assert output() is None
