"""A migrated file trains to the same first losses as the older file, whatever it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.cli.config_migrate import migrated
from signal_diffusion.training.diffusion import train
from tests.config import older_files
from tests.training.runs import metrics_of

pytestmark = pytest.mark.usefixtures("own_cache")
SMALL = """
[dataset]
name = "{root}"
batch_size = 8
class_column = "label"
[model.extras]
num_layers = 1
num_attention_heads = 2
attention_head_dim = 4
patch_size = 8
[training]
max_train_steps = 2
mixed_precision = "no"
log_every_steps = 1
eval_num_examples = 0
eval_num_steps = 2
[logging]
tensorboard = false
"""
SPECTROGRAMS = '[data]\noutput_type = "db-only"' + SMALL
FLAT_TOML = {
    "unsaid": SPECTROGRAMS,
    "velocity": SPECTROGRAMS + '[objective]\nprediction_type = "vector_field"',
    "linear": SPECTROGRAMS + '[scheduler]\nname = "linear"\n[optimizer]\nname = "adamw_8bit"\nlearning_rate = 1e-3',
    "classes": SPECTROGRAMS.replace("[model.extras]", '[model]\nconditioning = "classes"\n[model.extras]'),
    "pictures": SMALL.replace("batch_size = 8", "batch_size = 8\nresolution = 16\nrandom_flip = true"),
}
FEW = ("epochs: 1", "epochs: 1\n  max_steps: 2")
FLAT_YAML = {
    "as it is": older_files.FLAT_YAML.replace(*FEW),
    "without classes": older_files.FLAT_YAML.replace(*FEW)
    .replace("num_classes: 2", "num_classes: null")
    .replace("return_labels: true", "return_labels: false"),
    "step": older_files.FLAT_YAML.replace(*FEW).replace("scheduler: cosine", "scheduler: step"),
}
GROUPED_YAML = {
    "as it is": older_files.GROUPED_YAML.replace(*FEW),
    "linear": older_files.GROUPED_YAML.replace(*FEW)
    .replace("num_timesteps: 100", "num_timesteps: 1000")
    .replace("beta_schedule: cosine", "beta_schedule: linear"),
}


def losses(folder: Path, suffix: str, text: str) -> tuple[list[float], list[float]]:
    """The training losses of an older file and of its migration."""
    (folder / f"old.{suffix}").write_text(text)
    (folder / "new.toml").write_text(migrated(folder / f"old.{suffix}", "test") or "")
    found = []
    for name in (f"old.{suffix}", "new.toml"):
        overrides = ("compute.device=cpu", "training.visualization.enabled=false")
        train(folder / name, output_dir=folder / f"run-{name}", overrides=overrides)
        rows = metrics_of(folder / f"run-{name}")
        found.append([row["train/loss"] for row in rows if "train/loss" in row])
    return found[0], found[1]


@pytest.mark.parametrize("name", FLAT_TOML)
def test_the_flat_toml(name: str, spectrograms: Path, tmp_path: Path) -> None:
    old, new = losses(tmp_path, "toml", FLAT_TOML[name].format(root=spectrograms))
    assert old == new and len(old) == 2


@pytest.mark.parametrize("name", FLAT_YAML)
def test_the_flat_yaml(name: str, colours: Path, tmp_path: Path) -> None:
    text = FLAT_YAML[name].format(root=colours) + "logging: {tensorboard: false}\n"
    old, new = losses(tmp_path, "yaml", text.replace("  max_steps: 2", "  max_steps: 2\n  log_interval: 1"))
    assert old == new and len(old) == 2


@pytest.mark.parametrize("name", GROUPED_YAML)
def test_the_grouped_yaml(name: str, colours: Path, tmp_path: Path) -> None:
    text = GROUPED_YAML[name].format(root=colours) + "logging: {tensorboard: false}\n"
    old, new = losses(tmp_path, "yml", text.replace("  max_steps: 2", "  max_steps: 2\n  log_interval: 1"))
    assert old == new and len(old) == 2
