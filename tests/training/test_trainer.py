"""The training loop: what is due at which step, precision, and losses that are not finite."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from signal_diffusion.checkpoints import list_checkpoints
from signal_diffusion.data import loaders
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import as_array
from signal_diffusion.data.writing_splits import nested
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.training import device
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.trainer import Trainer
from signal_diffusion.training.validation import Validation
from tests.training.poison import poison
from tests.training.runs import metrics_of, tensors_of


def steps_with(run: Path, name: str) -> list[int]:
    return [row["step"] for row in metrics_of(run) if name in row]


@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_intervals_count_optimizer_steps_whatever_the_accumulation(
    accumulation: int, experiment_file: Path, tmp_path: Path
) -> None:
    train(
        experiment_file,
        output_dir=tmp_path,
        overrides=(
            f"training.gradient_accumulation_steps={accumulation}",
            "training.max_steps=10",
            "training.checkpointing.interval=5",
        ),
    )
    assert steps_with(tmp_path, "train/loss") == [4, 8, 10]
    assert steps_with(tmp_path, "validation/loss") == [4, 8, 10]
    assert {5, 10} <= {int(path.name.split("-")[1]) for path in list_checkpoints(tmp_path)}


def test_total_limit_keeps_the_latest_checkpoints_and_the_best(experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=("training.checkpointing.total_limit=2",))
    steps = [int(path.name.split("-")[1]) for path in list_checkpoints(tmp_path)]
    best = json.loads((tmp_path / "checkpoint-15" / "progress.json").read_text())["best_step"]
    assert steps == sorted({best, 14, 15})


def test_total_limit_0_keeps_all_checkpoints(experiment_file: Path, tmp_path: Path) -> None:
    overrides = ("training.max_steps=5", "training.checkpointing.interval=1", "training.checkpointing.total_limit=0")
    train(experiment_file, output_dir=tmp_path, overrides=overrides)
    assert len(list_checkpoints(tmp_path)) == 5


def test_epochs_set_the_length_without_max_steps(experiment_file: Path, tmp_path: Path) -> None:
    text = experiment_file.read_text().replace("max_steps = 15\n", "epochs = 2\n")
    (tmp_path / "epochs.toml").write_text(text)
    train(tmp_path / "epochs.toml", output_dir=tmp_path / "run")
    assert list_checkpoints(tmp_path / "run")[-1].name == "checkpoint-12"  # 100 // 16 = 6 steps per epoch


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_weights_optimizer_state_and_average_are_fp32(precision: str, experiment_file: Path, tmp_path: Path) -> None:
    overrides = (f"training.mixed_precision={precision}", "training.max_steps=2")
    train(experiment_file, output_dir=tmp_path, overrides=overrides)
    tensors = tensors_of(tmp_path / "checkpoint-2")
    floats = {name: value for name, value in tensors.items() if name.startswith(("model.", "ema.", "optimizer."))}
    assert len(floats) > 30 and {value.dtype for value in floats.values()} == {torch.float32}


def test_on_a_cpu_without_bf16_training_uses_fp32_and_says_so(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ("training.validation.enabled=false", "training.max_steps=2")
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    for precision in ("bf16", "no"):
        asked = (*overrides, f"training.mixed_precision={precision}")
        train(experiment_file, output_dir=tmp_path / precision, overrides=asked)

    printed = capsys.readouterr()
    assert printed.out.count("this CPU does not support bf16") == 1 and printed.err.count("1 × cpu, no\n") == 2
    assert metrics_of(tmp_path / "bf16") == metrics_of(tmp_path / "no")


def test_validation_does_not_depend_on_the_batch_size_or_change_the_random_state(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, states = Trainer._validate, []

    def watched(self: Trainer, *arguments: object) -> None:
        before = torch.get_rng_state()
        original(self, *arguments)  # type: ignore[arg-type]
        states.append(torch.equal(before, torch.get_rng_state()) and self.model.training)

    monkeypatch.setattr(Trainer, "_validate", watched)
    losses = []
    for batch_size in (5, 24):
        run = tmp_path / str(batch_size)
        overrides = (f"training.validation.batch_size={batch_size}", "training.max_steps=4")
        train(experiment_file, output_dir=run, overrides=overrides)
        losses.append([row for row in metrics_of(run) if "validation/loss" in row][-1])
    assert states == [True, True]
    assert losses[0].keys() == losses[1].keys() and len(losses[0]) >= 10
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_validation_does_not_change_the_trained_weights(experiment_file: Path, tmp_path: Path) -> None:
    for name, enabled in (("with", "true"), ("without", "false")):
        overrides = (f"training.validation.enabled={enabled}", "training.max_steps=6")
        train(experiment_file, output_dir=tmp_path / name, overrides=overrides)
    first, second = (tensors_of(tmp_path / name / "checkpoint-6") for name in ("with", "without"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_validation_at_start_is_never_the_best(experiment_file: Path, tmp_path: Path) -> None:
    overrides = (
        "training.validation.at_start=true",
        "training.max_steps=4",
        "training.optimizer.learning_rate=10.0",
    )
    train(experiment_file, output_dir=tmp_path, overrides=overrides)
    progress = json.loads((tmp_path / "checkpoint-4" / "progress.json").read_text())
    assert steps_with(tmp_path, "validation/loss") == [0, 4]
    assert progress["best_step"] == 4


def test_a_preview_at_start_shows_the_network_before_training(experiment_file: Path, tmp_path: Path) -> None:
    overrides = ("training.max_steps=2", "training.visualization.interval=2", "training.visualization.num_samples=2")
    for at_start, expected in (("true", [0, 2]), ("false", [2])):
        changes = (*overrides, f"training.visualization.at_start={at_start}", "training.visualization.enabled=true")
        train(experiment_file, output_dir=tmp_path / at_start, overrides=changes)
        found = sorted((tmp_path / at_start / "samples").glob("step-*.png"))
        assert [int(path.stem.removeprefix("step-")) for path in found] == expected
    first, second = (tensors_of(tmp_path / name / "checkpoint-2") for name in ("true", "false"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_validation_loss_that_is_not_finite_is_never_the_best(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = iter((math.nan, math.nan, 2.0, 2.0, math.inf, math.inf, 1.0, 1.0))
    monkeypatch.setattr(Validation, "__call__", lambda *arguments: {"loss": next(losses)})
    overrides = ("training.checkpointing.save_best_only=true", "training.validation.interval=1", "training.max_steps=4")

    train(experiment_file, output_dir=tmp_path, overrides=overrides)

    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-4"]
    progress = json.loads((tmp_path / "checkpoint-4" / "progress.json").read_text())
    assert (progress["best_step"], progress["best_value"]) == (4, 1.0)
    assert capsys.readouterr().err.count("is not finite; it cannot be the best") == 2


def test_a_nan_loss_stops_the_run_and_names_the_step_and_the_last_checkpoint(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 6)
    with pytest.raises(UserError) as caught:
        train(experiment_file, output_dir=tmp_path)
    assert "step 7" in str(caught.value) and "checkpoint-" in str(caught.value)
    for checkpoint in list_checkpoints(tmp_path):
        assert all(torch.isfinite(value).all() for value in tensors_of(checkpoint).values())


def test_a_nan_loss_is_skipped_and_counted_with_on_nonfinite_skip(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 5, 6)
    train(experiment_file, output_dir=tmp_path, overrides=("training.on_nonfinite=skip",))
    rows = [row for row in metrics_of(tmp_path) if "train/loss" in row]
    assert [row["train/skipped_steps"] for row in rows] == [0, 2, 2, 2]
    five, six, seven = (tensors_of(tmp_path / f"checkpoint-{step}") for step in (5, 6, 7))
    names = [name for name in five if name.startswith(("model.", "optimizer."))]
    assert all(torch.equal(five[name], six[name]) and torch.equal(five[name], seven[name]) for name in names)


@pytest.mark.parametrize("log_gradients", ["false", "true"])
def test_a_step_without_logging_does_not_wait_for_the_device(
    log_gradients: str, experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts `.item()` calls: cheap on the CPU, but on CUDA each one waits for the device."""
    reads: list[str] = []
    original = Trainer.take_step

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):  # type: ignore[no-untyped-def]
            if function in WAITS:
                reads.append(str(function))
            return function(*arguments, **(options or {}))

    def watched(self: Trainer, *arguments: object) -> torch.Tensor:
        with Watch():
            return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "take_step", watched)
    train(
        experiment_file,
        output_dir=tmp_path,
        overrides=(
            "training.max_steps=3",
            "training.validation.enabled=false",
            f"debug.log_gradients={log_gradients}",
        ),
    )
    assert reads == []
    with Watch():
        torch.ones(1).item()
    assert reads == ["aten._local_scalar_dense.default"]


WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


def test_a_learning_rate_that_has_decayed_to_nothing_is_told_once(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scheduler = {"type": "step", "gamma": 1e-5, "step_size": 1, "min_lr_ratio": 0}
    overrides = [f"training.scheduler.{key}={value}" for key, value in scheduler.items()]
    train(experiment_file, output_dir=tmp_path, overrides=(*overrides, "training.log_interval=1"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "learning rate" in line]
    [warning] = warnings
    assert warning.startswith("warning: the learning rate is 1.0e-12 at step 12 and stays too low to change weights; ")


def test_conditions_are_dropped_at_the_rate_of_cfg_dropout(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[float] = []
    original = Conditioning.drop

    def counted(self: Conditioning, mask: torch.Tensor) -> Conditioning:
        dropped.append(mask.float().mean().item())
        return original(self, mask)

    monkeypatch.setattr(Conditioning, "drop", counted)
    overrides = ("model.conditioning.cfg_dropout=0.4", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path, overrides=overrides)
    assert sum(dropped) / len(dropped) == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize(
    "overrides",
    [
        ("model.conditioning.type=none", "model.diffusion.method=ddpm"),
        ("model.conditioning.type=attributes", "training.scheduler.type=plateau"),
        ("training.optimizer.type=sgd",),
        (
            "training.gradient_checkpointing=true",
            "data.augmentation.gaussian_noise_std=0.1",
            "logging.tensorboard=true",
        ),
        ("training.visualization.enabled=true", "training.visualization.num_samples=3"),
    ],
    ids=lambda overrides: " ".join(overrides),
)
def test_training_runs_with_other_settings(overrides: tuple[str, ...], experiment_file: Path, tmp_path: Path) -> None:
    assert train(experiment_file, output_dir=tmp_path, overrides=("training.max_steps=2", *overrides))
    assert (tmp_path / "checkpoint-2").is_dir()


def test_a_split_that_does_not_fit_in_memory_is_mapped_and_trained_on_with_the_same_results(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ("training.max_steps=2", "data.loading.num_workers=1")
    train(experiment_file, output_dir=tmp_path / "in_memory", overrides=overrides)
    full = SimpleNamespace(available=0, total=2**40)
    monkeypatch.setattr(loaders.psutil, "virtual_memory", lambda: full)
    train(experiment_file, output_dir=tmp_path / "mapped", overrides=overrides)
    first, second = (tensors_of(tmp_path / name / "checkpoint-2") for name in ("in_memory", "mapped"))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("data.loading.batch_size=64",), "takes 128 examples"),
        (("data.paths.root=nowhere",), "signal-diffusion prepare --synthetic --output nowhere"),
        (
            ("data.paths.root=$NOT_SET/data",),
            "tiny.toml: [data.paths] root: '$NOT_SET/data' contains an environment variable",
        ),
        (("data.paths.val=holdout",), "has no split 'holdout'"),
        (("model.conditioning.num_classes=5",), "5, but the dataset has 2"),
        (
            ("model.conditioning.type=attributes", "model.conditioning.attributes=['weight']"),
            "cannot condition on 'weight'",
        ),
        (("model.architecture.patch_size=[7, 16]",), "does not divide"),
        (("model.pretrained=nowhere",), "[model] pretrained: nowhere: not a checkpoint"),
        (("training.mixed_precision=fp16", "compute.device=auto"), "needs a CUDA device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_settings_that_do_not_fit_the_data_are_one_line_before_anything_is_written(
    overrides: tuple[str, ...], expected: str, experiment_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        train(experiment_file, output_dir=tmp_path / "run", overrides=overrides)
    assert len(caught.value.lines) == 1 and expected in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_training_can_start_from_the_weights_of_another_run(experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path / "first", overrides=("training.max_steps=3",))
    pretrained = tmp_path / "first" / "checkpoint-3"
    overrides = (
        f"model.pretrained={pretrained}",
        "training.max_steps=1",
        "training.optimizer.learning_rate=1e-30",
    )
    train(experiment_file, output_dir=tmp_path / "second", overrides=overrides)
    first, second = tensors_of(pretrained), tensors_of(tmp_path / "second" / "checkpoint-1")
    names = [name for name in first if name.startswith("ema.")]
    differences = [first[name] - second[f"model.{name.removeprefix('ema.')}"] for name in names]
    assert max(difference.abs().max() for difference in differences) < 1e-20


def test_a_loss_that_is_not_finite_names_the_examples_of_its_batch(
    synthetic_dataset: Path, experiment_file: Path, tmp_path: Path
) -> None:
    """Of a step of 16 among 100 of the 228 examples, one is not finite, as another program wrote it."""
    root = Path(shutil.copytree(synthetic_dataset, tmp_path / "dataset"))
    tables = pq.read_table(root / "train" / "00000.parquet")
    column = tables.column("image").combine_chunks()
    values = as_array(tables.column("image"), (1, 64, 64)).copy()
    values[9, 0, 0, 0] = math.nan
    array = pa.ExtensionArray.from_storage(column.type, nested(values))
    pq.write_table(tables.set_column(0, "image", array), root / "train" / "00000.parquet")
    overrides = (f"data.paths.root={root}", "data.loading.shuffle_train=false", "training.validation.enabled=false")
    with pytest.raises(UserError) as caught:
        train(experiment_file, output_dir=tmp_path / "run", overrides=overrides, accept_changed_data=True)
    name = f"{tables.column('recording')[9]}, window 0, electrode {DatasetCard.load(root).channels[9]}"
    assert caught.value.lines == (
        "the gradient of step 1 was not finite (35 of 35 tensors, first patch_embedding.weight; the loss of 1 of 2 "
        f"batches), so the step was skipped; examples of its batch have values that are not finite: {name}; run "
        "`signal-diffusion data check` on the dataset, and make it again without them",
    )
