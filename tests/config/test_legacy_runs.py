"""Files of older layouts train, also after the edits that their documentation suggested."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config.schema import Checkpointing, Experiment, Scheduler, Training, Validation
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.intervals import in_steps
from signal_diffusion.training.optimizers import learning_rate_schedule
from tests import text_encoders
from tests.config import older_files
from tests.training.runs import metrics_of

pytestmark = pytest.mark.usefixtures("own_cache")
SPECTROGRAMS = """
[data]
output_type = "db-only"
[dataset]
name = "{root}"
batch_size = 8
class_column = "label"
[model]
name = "dit"
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
checkpoint_interval = 2
eval_num_steps = 2
[logging]
tensorboard = false
"""


def edited(text: str, edit: str) -> str:
    """Insert the lines of `edit` into the tables of a file, replacing the lines of the same keys."""
    lines, table = text.strip().splitlines(), ""
    for line in edit.strip().splitlines():
        if line.startswith("["):
            table = line
            continue
        key = line.split(" = ")[0]
        start = lines.index(table) + 1
        end = next((i for i in range(start, len(lines)) if lines[i].startswith("[")), len(lines))
        lines[start:end] = [line, *(each for each in lines[start:end] if each.split(" = ")[0] != key)]
    return "\n".join(lines)


def trained(folder: Path, root: Path, edit: str, *overrides: str) -> Experiment:
    """Train on the edited file, and return the experiment of the run, in the current layout."""
    (folder / "old.toml").write_text(edited(SPECTROGRAMS.format(root=root), edit))
    assert train(folder / "old.toml", output_dir=folder / "run", overrides=overrides)
    return load_experiment(folder / "run" / "config.toml")


def test_edited_batch_size_and_epochs_are_used(spectrograms: Path, tmp_path: Path) -> None:
    edit = """
[dataset]
batch_size = 32  # Reduce for smaller GPU, increase for larger GPU
[training]
epochs = 10  # Default varies by config (1-200)
max_train_steps = 0
"""
    experiment = trained(tmp_path, spectrograms, edit)
    assert (experiment.data.loading.batch_size, experiment.training.epochs) == (32, 10)
    last = metrics_of(tmp_path / "run")[-1]
    assert last["step"] == 20  # nothing is dropped from the last batch


def test_an_edited_class_dropout_is_used(spectrograms: Path, tmp_path: Path) -> None:
    edit = """
[model]
conditioning = "classes"
[model.extras]
cfg_dropout = 0.1  # 0.0 = disabled, 0.1-0.2 = typical
"""
    assert trained(tmp_path, spectrograms, edit).model.conditioning.cfg_dropout == 0.1


@pytest.mark.parametrize(("interval", "steps", "saved"), [(500, 2, [2]), (2, 4, [2, 4])])
def test_edited_intervals_are_used(
    interval: int, steps: int, saved: list[int], spectrograms: Path, tmp_path: Path
) -> None:
    edit = f"""
[training]
checkpoint_interval = {interval}  # Save every N steps
eval_num_steps = {interval}  # Evaluate every N steps
max_train_steps = {steps}
"""
    training = trained(tmp_path, spectrograms, edit).training
    assert (training.checkpointing.interval, training.validation.interval) == (interval, interval)
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == [f"checkpoint-{n}" for n in saved]
    assert [row["step"] for row in metrics_of(tmp_path / "run") if "validation/loss" in row] == [0, *saved]


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_an_edited_precision_is_used(precision: str, spectrograms: Path, tmp_path: Path) -> None:
    edit = f'[training]\nmixed_precision = "{precision}"  # Options: "no", "fp16", "bf16"'
    assert trained(tmp_path, spectrograms, edit).training.mixed_precision == precision


def test_fp16_without_cuda_is_refused_in_one_line(spectrograms: Path, tmp_path: Path) -> None:
    edit = '[training]\nmixed_precision = "fp16"  # Options: "no", "fp16", "bf16"'
    with pytest.raises(UserError, match=r"mixed_precision: 'fp16' needs .*CUDA.*'bf16' or 'no'"):
        trained(tmp_path, spectrograms, edit, "compute.device=cpu")


def test_an_edited_number_of_classes_is_used(spectrograms: Path, tmp_path: Path) -> None:
    edit = '[model]\nconditioning = "classes"\n[dataset]\nnum_classes = 5'
    conditioning = trained(tmp_path, spectrograms, edit).model.conditioning
    assert (conditioning.type, conditioning.num_classes) == ("class", 5)
    (tmp_path / "old.toml").write_text(
        (tmp_path / "old.toml").read_text().replace("num_classes = 5", "num_classes = 4")
    )
    with pytest.raises(UserError, match="num_classes"):
        train(tmp_path / "old.toml", output_dir=tmp_path / "another")


def test_a_file_edited_to_use_captions_trains(spectrograms: Path, tmp_path: Path) -> None:
    encoder = text_encoders.clip(tmp_path / "clip")
    edit = '[model]\nconditioning = "caption"\n[dataset]\ncaption_column = "description"'
    experiment = trained(tmp_path, spectrograms, edit, f"model.conditioning.text_encoder={encoder}")
    assert experiment.model.conditioning.type == "caption" and experiment.data.columns.caption == "description"


def test_a_size_that_differs_from_the_dataset_is_refused_before_training(spectrograms: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\[dataset\] resolution: 64, but the dataset has \[16, 16\]"):
        trained(tmp_path, spectrograms, "[dataset]\nresolution = 64")
    assert not (tmp_path / "run").exists()
    result = CliRunner().invoke(app, ["config", "check", str(tmp_path / "old.toml")])
    assert isinstance(result.exception, UserError) and "resolution: 64" in str(result.exception)


@pytest.mark.parametrize("layout", ["FLAT_YAML", pytest.param("GROUPED_YAML", marks=pytest.mark.slow)])
def test_a_yaml_file_for_images_trains_and_generates(layout: str, colours: Path, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(getattr(older_files, layout).format(root=colours))
    run = tmp_path / "run"
    few = ("training.epochs=2", "generation.sampling.steps=2", "model.architecture.layers_per_block=1")
    assert train(tmp_path / "old.yaml", output_dir=run, overrides=few)
    assert [row["step"] for row in metrics_of(run) if "validation/ema_loss" in row] == [5, 10]
    assert sorted(path.name for path in run.glob("*/checkpoint-*")) == ["checkpoint-10", "checkpoint-5"]
    assert sorted(path.name for path in run.glob("samples/*")) == ["step-00000005.png", "step-00000010.png"]
    words = ["sample", str(run), "--num", "4", "--output", str(tmp_path / "out")]
    CliRunner().invoke(app, words, catch_exceptions=False)
    images = [Image.open(path) for path in sorted((tmp_path / "out").rglob("*.png"))]
    assert sum(image.size == (16, 16) and image.mode == "RGB" for image in images) == 4


def test_intervals_in_epochs_become_steps() -> None:
    epochs = {"interval": 3, "unit": "epochs"}
    training = Training(checkpointing=Checkpointing(**epochs), validation=Validation(**epochs))
    found = in_steps(training, steps_per_epoch=7)
    assert [found.checkpointing.interval, found.validation.interval, found.visualization.interval] == [21, 21, 1000]
    assert found.validation.unit == "steps"


def test_a_cosine_with_t_max_matches_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3, eta_min=0.1)
    table = Scheduler(type="cosine", warmup_steps=0, T_max=3, min_lr_ratio=0.1)
    ours = learning_rate_schedule(table, num_steps=80, steps_per_epoch=10)
    rates = []
    for _ in range(8):
        rates.append(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()
    assert [ours(10 * epoch) for epoch in range(8)] == pytest.approx(rates)
