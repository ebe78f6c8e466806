"""Networks before training: which of a checkpoint's weights they start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.network import assemble
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train

NONE = "model.conditioning.type=none"
OTHER_CLASSES = "data.columns.label=gender"
ATTRIBUTES = "model.conditioning.type=attributes"


@pytest.fixture(scope="module")
def base(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a class-conditional model."""
    folder = tmp_path_factory.mktemp("base")
    train(experiment_file, output_dir=folder, overrides=("training.max_steps=3",))
    return folder / "checkpoint-3"


def state_of(experiment_file: Path, *overrides: str) -> dict[str, Tensor]:
    """State of an experiment's network before training."""
    resolved = resolve(load_experiment(experiment_file, overrides))
    assembly = assemble(resolved.experiment, resolved.dataset.card, None, pretrained=resolved.pretrained)
    return assembly.model.state_dict()


@pytest.mark.parametrize("override", [NONE, OTHER_CLASSES, ATTRIBUTES])
def test_pretrained_weights_of_other_conditions_are_loaded_except_for_the_embeddings(
    base: Path, experiment_file: Path, override: str
):
    fresh = state_of(experiment_file, override)

    found = state_of(experiment_file, override, f"model.pretrained={base}")

    own = {name for name in fresh if name.startswith("conditioning.")}
    averaged = load_file(base / "ema.safetensors")
    assert bool(own) == (override != NONE)
    assert found.keys() - own == {name for name in averaged if not name.startswith("conditioning.")}
    assert all(torch.equal(found[name], (fresh if name in own else averaged)[name]) for name in found)


def test_pretrained_weights_of_other_conditions_are_a_warning_only_when_a_run_is_new(
    base: Path, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    start, message = f"model.pretrained={base}", "start from fresh weights"

    def warnings(folder: Path, *overrides: str, resume: str | None = None) -> list[str]:
        train(experiment_file, output_dir=folder, overrides=(start, *overrides), resume=resume)
        return [line for line in capsys.readouterr().err.splitlines() if message in line]

    [line] = warnings(tmp_path / "other", OTHER_CLASSES, "training.max_steps=1")
    assert "[model] pretrained: trained with other conditions (class, label (alert, relaxed)): the embeddings" in line
    assert not warnings(tmp_path / "same", "training.max_steps=1")
    assert not warnings(tmp_path / "other", OTHER_CLASSES, "training.max_steps=2", resume="latest")


def test_a_lora_run_from_pretrained_weights_of_other_conditions_can_be_loaded(
    base: Path, experiment_file: Path, tmp_path: Path
):
    overrides = (f"model.pretrained={base}", OTHER_CLASSES, "model.lora.enabled=true", "training.max_steps=1")

    train(experiment_file, output_dir=tmp_path / "run", overrides=overrides)

    extent = inspect(resolve(load_experiment(experiment_file, overrides))).extent
    assert extent is not None and extent.num_steps == 1
    found, saved = load_trained(tmp_path / "run").model.state_dict(), tmp_path / "run/checkpoint-1/ema.safetensors"
    name = "conditioning.embeddings.0.table.weight"
    assert torch.equal(found[name], load_file(saved)[name])
