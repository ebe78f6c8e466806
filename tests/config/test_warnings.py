"""Warnings about suspicious settings are given once, before training, and can be switched off."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from signal_diffusion.cli.config import check
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.schema import (
    Checkpointing,
    Debug,
    Diffusion,
    Ema,
    Experiment,
    Generation,
    Model,
    Optimizer,
    Sampling,
    Scheduler,
    Training,
    Validation,
    ValidationRules,
    Visualization,
)
from signal_diffusion.config.warnings import Extent, findings_in
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.experiment.dataset import Dataset, steps_of
from signal_diffusion.experiment.inspection import findings_on
from signal_diffusion.experiment.loading import load_any_experiment, load_experiment
from signal_diffusion.training.diffusion import train

SHIPPED = sorted((Path(__file__).parents[2] / "config").glob("*/*.toml"))
RUN = Extent(num_steps=1000, steps_per_epoch=100, examples_per_step=32, num_examples=3200)


@pytest.mark.parametrize(
    ("tables", "key", "message"),
    [
        (
            {"optimizer": Optimizer(gradient_clip_norm=0.005)},
            "optimizer.gradient_clip_norm",
            "0.005 clips every gradient",
        ),
        ({"optimizer": Optimizer(learning_rate=1e-10)}, "optimizer.learning_rate", "1e-10 is dead: steps below 1e-09"),
        ({"optimizer": Optimizer(gradient_clip_norm=500.0)}, "optimizer.gradient_clip_norm", "500.0 practically never"),
        ({"checkpointing": Checkpointing(interval=1001)}, "checkpointing.interval", "1001 steps is longer than the"),
        ({"checkpointing": Checkpointing(interval=11, unit="epochs")}, "checkpointing.interval", "1100 steps is"),
        (
            {"checkpointing": Checkpointing(interval=500, save_best_only=True)},
            "checkpointing.interval",
            "500, but with save_best_only only checkpoints that are the best",
        ),
        ({"validation": Validation(interval=2000)}, "validation.interval", "2000 steps is longer than the run of 1000"),
        ({"visualization": Visualization(interval=2000)}, "visualization.interval", "2000 steps is longer"),
        ({"scheduler": Scheduler(warmup_steps=101)}, "scheduler.warmup_steps", "101, but warm-up is limited to"),
        ({"ema": Ema(warmup=False)}, "ema.decay", "0.9999, every 10 steps and without warm-up, averages over 100000"),
        ({"ema": Ema(update_after_step=1000)}, "ema.update_after_step", "1000, but the run has 1000 steps: the EMA"),
        ({"ema": Ema(update_every=1001)}, "ema.update_every", "1001, but the run has 1000 steps: the EMA is never"),
    ],
)
def test_a_suspicious_setting_is_reported_with_its_key(tables: dict[str, Any], key: str, message: str) -> None:
    experiment = Experiment(training=Training(**tables))

    [(found, warning)] = findings_in(experiment, RUN)

    assert found == f"training.{key}" and warning.startswith(message)
    assert not findings_in(replace(experiment, validation_rules=ValidationRules(warn_if_suspicious=False)), RUN)


@pytest.mark.parametrize(
    "tables",
    [
        {"optimizer": Optimizer(gradient_clip_norm=0.0)},
        {"optimizer": Optimizer(learning_rate=1e-9)},
        {"optimizer": Optimizer(gradient_clip_norm=0.01)},
        {"optimizer": Optimizer(gradient_clip_norm=100.0)},
        {"checkpointing": Checkpointing(interval=0)},
        {"checkpointing": Checkpointing(save_best_only=True)},
        {"checkpointing": Checkpointing(interval=0, save_best_only=True)},
        {"checkpointing": Checkpointing(interval=10, unit="epochs")},
        {"validation": Validation(interval=2000, enabled=False)},
        {"visualization": Visualization(interval=2000, enabled=False)},
        {"scheduler": Scheduler(warmup_steps=100)},
        {"ema": Ema(warmup=False, decay=0.99)},
        {"ema": Ema(update_every=1000)},
        {"ema": Ema(warmup=False, enabled=False)},
    ],
)
def test_a_plausible_setting_gives_no_warning(tables: dict[str, Any]) -> None:
    assert not findings_in(Experiment(training=Training(**tables)), RUN)


def test_intervals_longer_than_the_run_share_one_warning() -> None:
    training = Training(checkpointing=Checkpointing(interval=1500), validation=Validation(interval=2000))

    [(key, message)] = findings_in(Experiment(training=training), RUN)

    assert key == "training.checkpointing.interval" and message.endswith("also training.validation.interval")


def test_defaults_give_no_warning_however_short_the_run() -> None:
    short = Extent(num_steps=3, steps_per_epoch=3, examples_per_step=8, num_examples=24)

    assert not findings_in(Experiment(), short) and not findings_in(AutoencoderExperiment(), short)


def test_small_steps_give_a_warning_only_for_diffusion_models() -> None:
    few = replace(RUN, examples_per_step=7)

    [(key, message)] = findings_in(Experiment(), few)

    assert key == "data.loading.batch_size" and message.startswith("7 examples per optimizer step")
    assert not findings_in(AutoencoderExperiment(), few)
    for never in (0, False):  # false was written by version 0.1.0
        assert not findings_in(Experiment(validation_rules=ValidationRules(warn_if_batch_size_small=never)), few)
    assert findings_in(Experiment(validation_rules=ValidationRules(warn_if_batch_size_small=True)), few)


def test_the_threshold_of_small_steps_is_the_number_in_the_file() -> None:
    experiment = Experiment(validation_rules=ValidationRules(warn_if_batch_size_small=33))

    [(_, message)] = findings_in(experiment, RUN)

    assert "fewer than 33" in message and not findings_in(experiment, replace(RUN, examples_per_step=33))


def test_the_ancestral_sampler_on_a_flow_says_what_it_does_and_what_to_use() -> None:
    sampling, flow = Generation(sampling=Sampling(sampler="ddpm")), Model(diffusion=Diffusion(method="rectified_flow"))
    experiment = Experiment(model=flow, generation=sampling)

    [(key, message)] = findings_in(experiment, RUN)

    assert key == "generation.sampling.sampler" and message.startswith("'ddpm' on a rectified flow replaces all of the")
    assert message.endswith("'euler-stochastic' replaces less")
    assert not findings_in(Experiment(generation=sampling), RUN) and not findings_in(Experiment(model=flow), RUN)
    assert not findings_in(replace(experiment, validation_rules=ValidationRules(warn_if_suspicious=False)), RUN)


def test_a_profile_needs_at_least_nine_steps() -> None:
    experiment = Experiment(debug=Debug(profile=True))

    assert [key for key, _ in findings_in(experiment, replace(RUN, num_steps=8))] == ["debug.profile"]
    assert not findings_in(experiment, replace(RUN, num_steps=9))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_experiments_give_no_warnings(path: Path) -> None:
    experiment = load_any_experiment(path)
    extent = replace(
        RUN,
        num_steps=steps_of(experiment.training, 100),
        examples_per_step=experiment.data.loading.batch_size,
    )

    assert not findings_in(experiment, extent)


def test_unlabelled_examples_of_a_class_conditional_model_are_counted(
    synthetic_dataset: Path, experiment_file: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(synthetic_dataset, root)
    [file] = (root / "train").iterdir()
    table = pq.read_table(file)
    labels = [None, None, None, *table["label"].to_pylist()[3:]]
    index, field = table.schema.get_field_index("label"), table.schema.field("label")
    pq.write_table(table.set_column(index, field, pa.array(labels, field.type)), file)
    card = DatasetCard.load(root)
    experiment = load_experiment(experiment_file, ["data.loading.max_train_examples=228"])
    dataset = Dataset(data=experiment.data, root=root, card=card)

    [(key, message)] = findings_on(experiment, dataset)

    assert key == "model.conditioning.type" and message.startswith("3 of 228 training examples have no label")
    silent = replace(experiment, validation_rules=ValidationRules(require_labels_if_conditional=False))
    assert not findings_on(silent, dataset)
    assert not findings_on(experiment, replace(dataset, root=synthetic_dataset))


@pytest.mark.parametrize(("name", "entries"), [("db-iq", {"normalisation"}), ("timeseries", {"data_std", "spectrum"})])
def test_datasets_of_older_versions_that_do_not_say_how_to_normalise_are_named(
    name: str, entries: set[str], datasets: dict[str, Path], experiment_file: Path
) -> None:
    small = ["data.loading.batch_size=1", "validation_rules.warn_if_batch_size_small=1"]
    paths = [f"data.representation={name}", f"data.paths.root={datasets[name]}"]
    experiment = load_experiment(experiment_file, [*paths, *small])
    card = DatasetCard.load(datasets[name])
    dataset = Dataset(data=experiment.data, root=datasets[name], card=card)
    assert not findings_on(experiment, dataset)
    parameters = {key: value for key, value in card.representation["parameters"].items() if key not in entries}
    older = replace(card, representation=card.representation | {"parameters": parameters})

    [(key, message)] = findings_on(experiment, replace(dataset, card=older))

    assert key == "data.paths.root" and "prepare the dataset again" in message


def test_training_and_config_check_give_each_warning_once_with_file_or_override(
    experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "odd.toml"
    text = experiment_file.read_text().replace("batch_size = 8", "batch_size = 1").replace("max_steps = 15", "")
    file.write_text(text)
    overrides = ("training.max_steps=2", "training.validation.interval=50", "training.optimizer.gradient_clip_norm=0")

    train(file, output_dir=tmp_path / "run", overrides=overrides)
    of_run = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning")]
    check([file], list(overrides))
    of_check = capsys.readouterr().err.splitlines()

    assert of_run == of_check
    assert [line.split(": ")[1:3] for line in of_run] == [
        [f"{file}", "[data.loading] batch_size"],
        ["--set", "[training.validation] interval"],
    ]
