"""Runs that train LoRA weights on an earlier run's model: small checkpoints, resuming and sampling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.trainer import Trainer
from tests.training.runs import largest_difference, metrics_of, tensors_of

LORA = ("model.lora.enabled=true", "model.lora.rank=2", "model.lora.dropout=0.1", "training.max_steps=6")


@pytest.fixture(scope="module")
def base(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    train(experiment_file, output_dir=folder, overrides=("training.max_steps=3",))
    return folder / "checkpoint-3"


def overrides(base: Path) -> tuple[str, ...]:
    return (*LORA, f"model.pretrained={base}")


@pytest.fixture(scope="module")
def run(experiment_file: Path, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert train(experiment_file, output_dir=folder, overrides=overrides(base))
    return folder


def test_checkpoints_contain_only_trained_weights(run: Path, base: Path) -> None:
    tensors = tensors_of(run / "checkpoint-6")
    weights = {name.removeprefix("model.") for name in tensors if name.startswith("model.")}
    assert weights == {name.removeprefix("ema.") for name in tensors if name.startswith("ema.")}
    assert {name for name in weights if "lora_" not in name} == {"conditioning.embeddings.0.table.weight"}
    moments = {name.split(".")[1] for name in tensors if name.startswith("optimizer.")}
    assert len(moments) == len(weights)
    assert {value.dtype for value in tensors.values() if value.is_floating_point()} == {torch.float32, torch.float64}
    small, large = ((path / "model.safetensors").stat().st_size for path in (run / "checkpoint-6", base))
    assert small < large / 2
    assert json.loads((run / "checkpoint-6" / "frozen.json").read_text()).keys() == {"pretrained"}


def test_training_changes_lora_weights_and_not_the_pretrained_ones(run: Path, base: Path) -> None:
    state = load_trained(run).model.state_dict()
    pretrained = load_file(base / "ema.safetensors")
    changes = {name: value for name, value in state.items() if "lora_B" in name}
    frozen = {name.replace(".base_layer", ""): value for name, value in state.items() if "lora_" not in name}
    embedding = "conditioning.embeddings.0.table.weight"
    assert changes and all(value.any() for value in changes.values())
    assert all(torch.equal(frozen[name], value) for name, value in pretrained.items() if name != embedding)
    assert not torch.equal(frozen[embedding], pretrained[embedding])


@pytest.mark.parametrize("step", [3, 5])
def test_resume_with_lora_is_bit_identical(
    step: int, run: Path, experiment_file: Path, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    train(experiment_file, output_dir=tmp_path, resume="latest", overrides=overrides(base))

    assert largest_difference(tmp_path / "checkpoint-6", run / "checkpoint-6") == 0
    assert metrics_of(tmp_path)[-1] == metrics_of(run)[-1]


def test_the_model_loaded_for_sampling_is_the_trained_one(
    experiment_file: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, models = Trainer.run, []

    def kept(self: Trainer, *arguments: object) -> bool:
        models.append(self.model)
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "run", kept)
    train(experiment_file, output_dir=tmp_path, overrides=(*overrides(base), "training.max_steps=2"))
    loaded = load_trained(tmp_path, ["generation.sampling.use_ema=false"]).model

    assert torch.equal(predicted(loaded), predicted(models[0].eval()))
    assert not torch.equal(predicted(loaded), predicted(load_trained(base).model))


@torch.no_grad()
def predicted(model: Denoiser) -> torch.Tensor:
    x = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    return model(x, torch.tensor([0.2, 0.7]), Conditioning({"label": torch.tensor([0, 1])}))


def test_a_changed_or_missing_base_is_one_line(experiment_file: Path, base: Path, tmp_path: Path) -> None:
    moved, run = tmp_path / "base", tmp_path / "run"
    shutil.copytree(base, moved)
    train(experiment_file, output_dir=run, overrides=(*overrides(moved), "training.max_steps=1"))
    shutil.rmtree(moved)
    shutil.copytree(base.with_name("checkpoint-1"), moved)
    for act in (
        lambda: load_trained(run),
        lambda: train(experiment_file, output_dir=run, resume="latest", overrides=overrides(moved)),
    ):
        with pytest.raises(UserError, match=r"toml: \[model\] pretrained: other weights than .*checkpoint-1 was"):
            act()
    shutil.rmtree(moved)
    with pytest.raises(UserError, match="not a checkpoint"):
        load_trained(run)


def test_a_run_without_lora_cannot_start_from_a_lora_checkpoint(
    run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="trained with LoRA, but the model is without LoRA"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=(f"model.pretrained={run / 'checkpoint-6'}",))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("model.lora.enabled=true",), r"\[model.lora\] enabled: LoRA needs pretrained weights; set model.pretrained"),
        (("model.lora.rank=2",), r"\[model.lora\] rank: has no effect with model.lora.enabled = False"),
        (
            ("model.lora.enabled=true", "model.pretrained=x", "model.name=unet", "model.architecture={}"),
            r"\[model.lora\] enabled: LoRA is not available for 'unet'; set model.name to one of .*dit",
        ),
    ],
)
def test_an_impossible_lora_is_refused_when_the_file_is_read(
    overrides: tuple[str, ...], expected: str, experiment_file: Path
) -> None:
    with pytest.raises(UserError, match=expected):
        load_experiment(experiment_file, overrides)


def test_a_missing_lora_target_is_refused_before_anything_is_written(
    experiment_file: Path, base: Path, tmp_path: Path
) -> None:
    wrong = (*overrides(base), "model.lora.target_modules=['to_q']")
    with pytest.raises(UserError, match=r"tiny.toml: \[model.lora\] target_modules: no linear layer ends in 'to_q'"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=wrong)
    with pytest.raises(UserError, match="no linear layer ends in 'to_q'"):
        inspect(resolve(load_experiment(experiment_file, wrong)))
    assert not (tmp_path / "run").exists()


def test_frozen_weights_take_no_memory_for_gradients_optimizer_or_average(experiment_file: Path, base: Path) -> None:
    whole, changes = (inspect(resolve(load_experiment(experiment_file, o))) for o in ((), overrides(base)))
    added = changes.parameters - whole.parameters
    embedding, tables = 3 * 16, 16 * 16 + 128  # positions, and the frequencies of time
    assert added == 2 * 2 * ((16 + 48) + (16 + 16) + (16 + 64) + (64 + 16))  # layers × rank × (inputs + outputs)
    assert changes.memory.state == 4 * (changes.parameters + 4 * (added + embedding) + tables)
