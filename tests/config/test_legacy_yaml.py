"""The two YAML layouts: the translation of every key, and errors."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config.legacy.report import summary
from signal_diffusion.config.legacy.translation import FLAT_YAML, GROUPED_YAML
from signal_diffusion.config.sources import read_translation
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.training.diffusion import train
from tests.config import older_files
from tests.config.older_files import flat, lines_of, of_yaml

LETTERS = "abcdefgh"
ALIASES = "a: &a [1, 2, 3]\n" + "".join(
    f"{letter}: &{letter} [{', '.join([f'*{last}'] * 9)}]\n" for last, letter in pairwise(LETTERS)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{letter}: &{letter} {{<<: [{', '.join([f'*{last}'] * 9)}]}}\n" for last, letter in pairwise(LETTERS)
)


def test_both_yaml_layouts_are_the_same_experiment(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(older_files.FLAT_YAML.format(root="/pictures"))
    (tmp_path / "grouped.yml").write_text(older_files.GROUPED_YAML.format(root="/pictures"))
    flat_one, grouped = load_experiment(tmp_path / "flat.yaml"), load_experiment(tmp_path / "grouped.yml")
    layouts = [
        translation.layout
        for name in ("flat.yaml", "grouped.yml")
        if (translation := read_translation(tmp_path / name))
    ]
    assert layouts == [FLAT_YAML, GROUPED_YAML]
    assert flat_one == grouped


def test_the_flat_yaml_is_translated() -> None:
    found = flat(of_yaml(older_files.FLAT_YAML.format(root="/pictures")).tables)
    assert found == {
        "compute.device": "cpu",
        "compute.seed": 3,
        "data.representation": "image",
        "data.image_size": 16,
        "data.paths.train": "/pictures/train",
        "data.paths.val": "/pictures/validation",
        "data.loading.batch_size": 8,
        "data.loading.num_workers": 0,
        "data.loading.shuffle_train": True,
        "data.loading.drop_last": False,
        "data.augmentation.horizontal_flip": True,
        "data.augmentation.rotation_degrees": 10,
        "data.augmentation.color_jitter.enabled": True,
        "data.augmentation.color_jitter.strength": 0.1,
        "model.name": "unet",
        "model.architecture.model_channels": 8,
        "model.architecture.channel_multipliers": [1, 2],
        "model.architecture.use_attention": [False, True],
        "model.diffusion.method": "ddpm",
        "model.diffusion.num_timesteps": 100,
        "model.diffusion.beta_schedule": "cosine",
        "model.conditioning.type": "class",
        "model.conditioning.num_classes": 2,
        "model.conditioning.cfg_dropout": 0.2,
        "training.epochs": 1,
        "training.mixed_precision": "no",
        "training.optimizer.type": "adam",
        "training.optimizer.learning_rate": 0.001,
        "training.optimizer.weight_decay": 0.01,
        "training.optimizer.betas": [0.9, 0.99],
        "training.optimizer.gradient_clip_norm": 0.0,
        "training.scheduler.type": "cosine",
        "training.scheduler.min_lr_ratio": 1e-5 / 0.001,
        "training.scheduler.warmup_steps": 0,
        "training.ema.enabled": True,
        "training.ema.decay": 0.99,
        "training.ema.update_every": 10,
        "training.ema.warmup": False,
        "training.checkpointing.interval": 1,
        "training.checkpointing.unit": "epochs",
        "training.checkpointing.save_best_only": False,
        "training.checkpointing.total_limit": 0,
        "training.validation.interval": 1,
        "training.validation.unit": "epochs",
        "training.validation.metric": "loss",
        "training.visualization.enabled": True,
        "training.visualization.interval": 1,
        "training.visualization.unit": "epochs",
        "training.visualization.num_samples": 4,
        "training.visualization.guidance_scale": 3.0,
        "generation.sampling.num_samples": 4,
        "generation.sampling.guidance_scale": 3.0,
        "generation.sampling.use_ema": True,
        "generation.output.save_individual": True,
        "generation.output.save_grid": True,
        "generation.output.grid_nrow": 2,
        "output.base_dir": "outputs",
        "output.subdirs.logs": "logs",
        "output.subdirs.checkpoints": "checkpoints",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: null", {"compute.seed": 0}),
        ("model: {num_classes: null, class_dropout_prob: 0.1}", {"model.conditioning.type": "none"}),
        ("model: {conditioning: {type: null, num_classes: null}}", {"model.conditioning.type": "none"}),
        ("data: {val_path: null}", {"training.validation.enabled": False}),
        ("training: {scheduler: null}", {"training.scheduler.type": "constant", "training.scheduler.warmup_steps": 0}),
        (
            "training: {scheduler: step, scheduler_kwargs: {step_size: 4, gamma: 0.5}}",
            {"training.scheduler.gamma": 0.5},
        ),
        (
            "training: {scheduler: plateau, scheduler_kwargs: {factor: 0.5, patience: 2}}",
            {"training.scheduler.gamma": 0.5, "training.scheduler.patience": 2},
        ),
        ("training: {epochs: 9, scheduler: {type: cosine, T_max: 4}}", {"training.scheduler.T_max": 4}),
        ("training: {use_amp: true}", {"training.mixed_precision": "fp16"}),
        ("training: {performance: {use_amp: true}}", {"training.mixed_precision": "fp16"}),
        ("training: {optimizer: adamw}", {"training.optimizer.type": "adamw"}),
        ("validation: {frequency: 3}", {"training.validation.interval": 3, "training.validation.unit": "epochs"}),
        (
            "training: {visualization: {sample_interval: 3, samples_per_class: 5}}",
            {"training.visualization.interval": 3, "training.visualization.num_samples": 5},
        ),
        (
            "output: {log_dir: a/b/logs}\ntraining: {checkpoint_dir: a/ckpt}\ngeneration: {output_dir: a/out}",
            {
                "output.base_dir": "a",
                "output.subdirs.logs": "b/logs",
                "output.subdirs.checkpoints": "ckpt",
                "output.subdirs.generated": "out",
            },
        ),
        ("output: {log_dir: logs}\ntraining: {checkpoint_dir: /ckpt}", {"output.subdirs.checkpoints": "ckpt"}),
        ("model: {num_timesteps: 20}", {"generation.sampling.steps": 20}),
        ("model: {name: dit}", {"model.name": "dit"}),
        ("training: {optimizer: {type: AdamW}}", {"training.optimizer.type": "adamw"}),
        ("validation_rules: {warn_if_batch_size_small: 16}", {"validation_rules.warn_if_batch_size_small": 16}),
        (
            "device: cpu",
            {
                "training.epochs": 200,
                "generation.sampling.num_samples": 100,
                "training.validation.metric": "loss",
                "training.visualization.num_samples": 8,
            },
        ),
        ("compute: {device: cpu}", {"training.visualization.num_samples": 16}),
        ("data: {color_jitter: true}", {"data.augmentation.color_jitter.strength": 0.1}),
        (
            "model: {num_classes: 3}",
            {
                "training.visualization.num_samples": 6,
                "training.visualization.guidance_scale": 3.0,
                "generation.sampling.guidance_scale": 3.0,
            },
        ),
    ],
)
def test_values_of_the_yaml_layouts_are_converted(text: str, expected: dict[str, Any]) -> None:
    translation = of_yaml(text)
    assert not translation.problems
    assert flat(translation.tables).items() >= expected.items()


def test_keys_without_effect_in_an_unconditional_model_are_dropped() -> None:
    text = """
model: {num_classes: null, class_dropout_prob: 0.1}
data: {val_path: null}
training: {scheduler: null, scheduler_kwargs: {T_max: 200, eta_min: 1.0e-6}}
validation: {enabled: true}
generation: {guidance_scale: 3.0}
"""
    translation = of_yaml(text)
    assert not translation.problems
    assert set(translation.left) == {
        "model.class_dropout_prob",
        "validation.enabled",
        "training.scheduler_kwargs.T_max",
        "training.scheduler_kwargs.eta_min",
        "generation.guidance_scale",
    }
    assert "guidance_scale" not in str(translation.tables)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: {image_size: 16}\ndata: {image_size: 32}", "32 as data.image_size and 16 as model.image_size"),
        ("data: {return_labels: true}", "but the model is not conditioned on labels"),
        ("experiment: gan", "experiment: expected 'diffusion', found 'gan'"),
        (
            "training: {learning_rate: fast}",
            "[training.optimizer] learning_rate (in this file training.learning_rate): expected",
        ),
        ("training: {optimizer_kwargs: {weigth_decay: 0.1}}", "unknown key (did you mean 'weight_decay'?)"),
        (
            "training: {scheduler_kwargs: {gama: 0.1}}",
            "gama (in this file training.scheduler_kwargs.gama): unknown key (did you mean 'gamma'?)",
        ),
        ("model: {chanels: 3}", "[model] chanels: unknown key"),
        ("data: {batchsize: 3}", "[data] batchsize: unknown key (did you mean 'batch_size'?)"),
        ("device: gpu", "found 'gpu' (did you mean 'cuda'?)"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("a: [", "not valid YAML: "),
        ("- 1", "not valid YAML: expected tables, found list"),
        ("", "not valid YAML: expected tables, found NoneType"),
        ("a: &a [*a]", "not valid YAML: "),
        ("? [1, 2]\n: 3", "not valid YAML: "),
        (ALIASES, "more than 10000 values, counting each use of an alias"),
        (MERGES, "more than 10000 values, counting each use of an alias"),
        ("no: 3", "False: unknown key"),
        (
            "training: {epochs: 2020-01-01}",
            "epochs: expected a string or a number of at most 64 bits, found 2020-01-01",
        ),
        ("training: {epochs: !!bool x}", "not valid YAML: expected tables of plain values: KeyError: 'x'"),
        ("training: {epochs: !!timestamp x}", "not valid YAML: expected tables of plain values: AttributeError"),
        ('data: {train_path: "\\uD800"}', "not valid YAML: expected tables of plain values: UnicodeEncodeError"),
        (
            f"training: {{scheduler_kwargs: {{eta_min: {'9' * 400}}}}}",
            "eta_min: expected a string or a number of at most",
        ),
        (f"generation: {{samples_per_class: 0x{'f' * 4000}}}", "not valid YAML: expected tables of plain values: Val"),
        (f"training: {{epochs: {'[' * 200}{']' * 200}}}", "epochs: expected a string or a number of at most 64 bits"),
        ("training: 3", "training: expected a table, found 3"),
        ("training: {scheduler_kwargs: {eta_min: 0.1}}", "expected a learning rate from 0 to the peak, 0.0001, found"),
        (
            "training: {optimizer_kwargs: {weigth: null}}",
            "weigth (in this file training.optimizer_kwargs.weigth): unknown key",
        ),
        ("training: {epoch: null}", "[training] epoch: unknown key (did you mean 'epochs'?)"),
        (
            "training: {checkpointing: {interval: 5, save_frequency: 5}}",
            "save_frequency: 5 (epochs) and training.checkpointing.interval = 5 (steps) conflict; remove one",
        ),
    ],
)
def test_a_mistake_in_a_yaml_file_is_one_line(tmp_path: Path, text: str, expected: str) -> None:
    lines = lines_of(tmp_path / "old.yaml", text)
    assert [line for line in lines if expected in line], lines
    assert not [line for line in lines if "\n" in line]


@pytest.mark.parametrize(
    ("written", "name"),
    [("latest", "latest"), ("runs/a/checkpoints/best.pt", "best"), ("runs/a/checkpoint-500", "checkpoint-500")],
)
def test_a_checkpoint_path_becomes_its_name(written: str, name: str) -> None:
    translation = of_yaml(f"generation: {{checkpoint: {written}}}\nmodel: {{num_classes: 3}}")

    assert flat(translation.tables)["generation.checkpoint"] == name


def test_a_checkpoint_without_a_valid_name_is_left_behind_with_what_to_do() -> None:
    lines = summary(of_yaml("generation: {checkpoint: runs/a/epoch_7.pt}\nmodel: {num_classes: 3}"))[0]
    assert lines[0].startswith(
        '  generation.checkpoint = "runs/a/epoch_7.pt": a file of weights; expected the folder of'
    )
    lines = summary(of_yaml("generation: {checkpoint: runs/a}\nmodel: {num_classes: 3}"))[0]
    assert lines[0].startswith('  generation.checkpoint = "runs/a": pass it to `signal-diffusion sample`')


def test_mode_generate_is_dropped_with_the_command_that_generates() -> None:
    text = (
        "mode: generate\ngeneration: {checkpoint: runs/a, num_samples: 9, guidance_scale: 2.0}\nmodel: {num_classes: 3}"
    )
    message = summary(of_yaml(text))[0][0]
    assert "`signal-diffusion sample runs/a --num 9 --guidance-scale 2.0`" in message


def test_training_refuses_a_file_that_generates_with_the_command_that_does(tmp_path: Path) -> None:
    text = older_files.FLAT_YAML.format(root=tmp_path).replace("mode: train", "mode: generate")
    (tmp_path / "old.yaml").write_text(text.replace("checkpoint: null", "checkpoint: best.pt"))
    with pytest.raises(
        UserError, match=r"mode: generate: .* `signal-diffusion sample RUN --num 4 --guidance-scale 3.0`"
    ):
        train(tmp_path / "old.yaml", output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_schedule_that_leaves_data_is_a_warning_in_an_older_layout_and_an_error_in_todays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("model: {num_timesteps: 100, beta_schedule: linear}\ndata: {train_path: /t}")
    load_experiment(path)
    [line] = [line for line in caplog.messages if "of the data at the last step" in line]
    assert line.startswith(f"{path}: [model.diffusion] beta_schedule (in this file model.beta_schedule): leaves 0.6")
    result = CliRunner().invoke(app, ["config", "migrate", str(path)])
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(f"{path}, in today's layout: [model.diffusion] beta_schedule: leaves 0.6")


def test_a_switch_that_is_always_on_today_says_so_next_to_false() -> None:
    left = of_yaml("data: {pin_memory: false}").left
    assert left["data.pin_memory"].reason == "always on for CUDA"
