"""Networks as they are before their training begins: what of a checkpoint's weights one starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.experiment.inspection import doubts_of, inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.network import assemble
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train

NONE = "model.conditioning.type=none"
OTHER_CLASSES = "data.columns.label=gender"
ATTRIBUTES = "model.conditioning.type=attributes"


@pytest.fixture(scope="module")
def base(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a model of classes."""
    folder = tmp_path_factory.mktemp("base")
    train(experiment_file, output_dir=folder, overrides=("training.max_steps=3",))
    return folder / "checkpoint-3"


def state_of(experiment_file: Path, root: Path, *overrides: str) -> dict[str, Tensor]:
    """The state of an experiment's network before its training."""
    return assemble(load_experiment(experiment_file, overrides), DatasetCard.load(root), None).model.state_dict()


@pytest.mark.parametrize("override", [NONE, OTHER_CLASSES, ATTRIBUTES])
def test_from_weights_of_other_conditions_a_network_starts_but_for_what_embeds_them(
    base: Path, experiment_file: Path, synthetic_dataset: Path, override: str
):
    fresh = state_of(experiment_file, synthetic_dataset, override)

    found = state_of(experiment_file, synthetic_dataset, override, f"model.pretrained={base}")

    own = {name for name in fresh if name.startswith("conditioning.")}
    averaged = load_file(base / "ema.safetensors")
    assert bool(own) == (override != NONE)
    assert found.keys() - own == {name for name in averaged if not name.startswith("conditioning.")}
    assert all(torch.equal(found[name], (fresh if name in own else averaged)[name]) for name in found)


def test_that_conditions_are_others_is_told_of_a_new_run_and_not_when_it_goes_on(
    base: Path, experiment_file: Path, synthetic_dataset: Path
):
    card, start = DatasetCard.load(synthetic_dataset), f"model.pretrained={base}"

    def told(*overrides: str) -> list[tuple[str, str]]:
        found = doubts_of(load_experiment(experiment_file, (start, *overrides)), synthetic_dataset, card)
        return [each for each in found if each[0] == "model.pretrained"]

    [(_, message)] = told(OTHER_CLASSES)
    assert message == (
        "trained with other conditions (class, label (alert, relaxed)): what embeds conditions starts fresh, and all "
        "else from there"
    )
    assert not told()
    assert not told(OTHER_CLASSES, "training.resume.enabled=true")


def test_a_run_of_lora_from_weights_of_other_conditions_is_loaded_again(
    base: Path, experiment_file: Path, tmp_path: Path
):
    overrides = (f"model.pretrained={base}", OTHER_CLASSES, "model.lora.enabled=true", "training.max_steps=1")

    train(experiment_file, output_dir=tmp_path / "run", overrides=overrides)

    assert inspect(load_experiment(experiment_file, overrides)).num_steps == 1
    found, saved = load_trained(tmp_path / "run").model.state_dict(), tmp_path / "run/checkpoint-1/ema.safetensors"
    name = "conditioning.embeddings.0.table.weight"
    assert torch.equal(found[name], load_file(saved)[name])
