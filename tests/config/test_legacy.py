"""Older layouts: every row of their tables, what is told, and what is refused."""

from __future__ import annotations

import dataclasses
import logging
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from signal_diffusion import experiment as experiments
from signal_diffusion.config.legacy.rows import FLAT_TOML, FLAT_YAML, GROUPED_YAML, ROWS, TODAY
from signal_diffusion.config.legacy.telling import summary
from signal_diffusion.config.legacy.translation import Translation, translated
from signal_diffusion.config.loading import known_keys, translation_of
from signal_diffusion.config.schema import Experiment
from signal_diffusion.errors import UserError
from tests.config import older_files

SHIPPED = sorted((Path(__file__).parents[2] / "config").glob("*/*.toml"))


def of_toml(text: str) -> Translation:
    return translated(tomllib.loads(text), known_keys())


def of_yaml(text: str) -> Translation:
    return translated(yaml.safe_load(text), known_keys(), yaml=True)


def flat(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tables.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def lines_of(path: Path, text: str, *overrides: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        experiments.load(path, overrides)
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]


# The flat TOML --------------------------------------------------------------------------------------------------------

FLOW = {"model.diffusion.method": "rectified_flow"}
CONDITIONED = '[model]\nconditioning = "classes"\n'
SERIES = '[data]\ndata_type = "timeseries"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[data]\noutput_type = "db-iq"\n[dataset]', {"data.representation": "db-iq"}),
        ('[data]\noutput_type = "db-only"\ndata_type = "timeseries"\n[dataset]', {"data.representation": "timeseries"}),
        ('[data]\ndata_type = "spectrogram"\n[dataset]', {"data.representation": "db-only"}),
        ('[dataset]\nname = "/data/eeg"', {"data.paths.root": "/data/eeg"}),
        ('[dataset]\nidentifier = "data/eeg"', {"data.paths.root": "data/eeg"}),
        ('[dataset]\nname = "someone/eeg"', {"data.paths.root": "someone/eeg", "data.source": "hub"}),
        ('[dataset]\ntrain_split = "a"\nval_split = "val"', {"data.paths.train": "a", "data.paths.val": "val"}),
        ("[dataset]\nbatch_size = 8\nnum_workers = 2", {"data.loading.batch_size": 8, "data.loading.num_workers": 2}),
        ("[dataset]\neval_batch_size = 4", {"training.validation.batch_size": 4}),
        ("[dataset]\n[training]\neval_batch_size = 4", {"training.validation.batch_size": 4}),
        ("[dataset]\nrandom_flip = false", {"data.augmentation.horizontal_flip": False}),
        ('[dataset]\nimage_column = "a"', {"data.columns.image": "a"}),
        (SERIES + '[dataset]\nimage_column = "a"', {"data.representation": "timeseries", "data.columns.signal": "a"}),
        (
            '[dataset]\ncaption_column = "a"\nclass_column = "b"\ngender_column = "c"\nhealth_column = "d"\n'
            'age_column = "e"',
            {
                "data.columns.caption": "a",
                "data.columns.label": "b",
                "data.columns.gender": "c",
                "data.columns.health": "d",
                "data.columns.age": "e",
            },
        ),
        (
            CONDITIONED + "[dataset]\nnum_classes = 5",
            {"model.conditioning.type": "class", "model.conditioning.num_classes": 5},
        ),
        (
            CONDITIONED + "num_classes = 5",
            {"model.conditioning.type": "class", "model.conditioning.num_classes": 5},
        ),
        (
            CONDITIONED + "[model.extras]\nnum_classes = 5\ncfg_dropout = 0.2",
            {
                "model.conditioning.type": "class",
                "model.conditioning.num_classes": 5,
                "model.conditioning.cfg_dropout": 0.2,
            },
        ),
        (
            '[model]\nconditioning = "gend_hlth_age"',
            {"model.conditioning.type": "attributes", "model.conditioning.attributes": ["gender", "health", "age"]},
        ),
        ('[model]\nconditioning = "none"', {"model.conditioning.type": "none"}),
        ('[model]\nconditioning = "caption"', {"model.conditioning.type": "caption"}),
        (
            "[dataset]\nmax_train_samples = 9\nmax_eval_samples = 8",
            {"data.loading.max_train_examples": 9, "data.loading.max_val_examples": 8},
        ),
        ("[dataset.extras]\ngaussian_noise_std = 0.1", {"data.augmentation.gaussian_noise_std": 0.1}),
        *(
            (f'[dataset]\n[model]\nname = "{old}"', {"model.name": new})
            for old, new in (
                ("dit", "dit"),
                ("hourglass", "hourglass"),
                ("localmamba", "localmamba"),
                ("stable-diffusion-3.5-medium", "sd35"),
                ("stable-diffusion-35", "sd35"),
            )
        ),
        ('[dataset]\n[model]\npretrained = "a/b"\nrevision = "v1"', {"model.pretrained": "a/b@v1"}),
        ('[dataset]\n[model]\npretrained = "a/b"', {"model.pretrained": "a/b"}),
        (
            '[model]\nlatent_space = true\nvae_tiling = true\n[model.extras]\nlatent_space = true\nvae = "v"',
            {"model.autoencoder.enabled": True, "model.autoencoder.tiling": True, "model.autoencoder.path": "v"},
        ),
        (
            "[model.extras]\nnum_layers = 3\nmapping_depth = 2\npatch_size = 4\nscan_directions = ['h']",
            {
                "model.architecture.num_layers": 3,
                "model.architecture.mapping_depth": 2,
                "model.architecture.patch_size": [4, 4],
                "model.architecture.scan_directions": ["h"],
            },
        ),
        (
            SERIES + "[model.extras]\npatch_size = 4",
            {"data.representation": "timeseries", "model.architecture.patch_size": [1, 4]},
        ),
        (
            '[model]\nname = "sd35"\n[model.extras]\npatch_size = 4',
            {"model.name": "sd35", "model.architecture.patch_size": 4},
        ),
        (
            "[model.extras]\nwidths = [64, 128]\nd_ffs = [192, 384]",
            {"model.architecture.widths": [64, 128], "model.architecture.mlp_ratio": 3.0},
        ),
        (
            '[model.extras]\nself_attns = [{type = "neighborhood", d_head = 32, kernel_size = 5}, '
            '{type = "global", d_head = 32}]',
            {"model.architecture.kernel_sizes": [5, 0], "model.architecture.attention_head_dim": 32},
        ),
        (
            '[dataset]\n[model.lora]\nenabled = true\nrank = 4\nalpha = 8\ndropout = 0.1\ntarget_modules = ["qkv"]',
            {
                "model.lora.enabled": True,
                "model.lora.rank": 4,
                "model.lora.alpha": 8,
                "model.lora.dropout": 0.1,
                "model.lora.target_modules": ["qkv"],
            },
        ),
        ('[objective]\nprediction_type = "vector_field"', {"model.diffusion.prediction": "velocity"}),
        ('[objective]\nprediction_type = "epsilon"\nnum_timesteps = 1000', {"model.diffusion.prediction": "epsilon"}),
        ('[objective]\nprediction_type = "sample"', {"model.diffusion.prediction": "sample"}),
        (
            '[optimizer]\nname = "adam"\nlearning_rate = 1e-3\nweight_decay = 0.1\nbetas = [0.8, 0.9]\neps = 1e-7',
            {
                "training.optimizer.type": "adam",
                "training.optimizer.learning_rate": 1e-3,
                "training.optimizer.weight_decay": 0.1,
                "training.optimizer.betas": [0.8, 0.9],
                "training.optimizer.eps": 1e-7,
            },
        ),
        ('[optimizer]\nname = "adamw_8bit"', {"training.optimizer.type": "adamw"}),
        ('[optimizer]\nname = "AdamW"', {"training.optimizer.type": "adamw"}),
        (
            '[scheduler]\nname = "Constant"',
            {"training.scheduler.type": "constant", "training.scheduler.warmup_steps": 0},
        ),
        ('[scheduler]\nname = "constant_with_warmup"', {"training.scheduler.type": "constant"}),
        ('[dataset]\n[training.scheduler]\nT_max = "auto"', {}),
        (
            '[dataset]\n[compute]\nseed = 3\n[model]\nname = "stable-diffusion-35"',
            {"compute.seed": 3, "model.name": "sd35"},
        ),
        (f'[dataset]\nname = "a/{"b" * 300}"', {"data.source": "hub", "data.paths.root": "a/" + "b" * 300}),
        (
            '[scheduler]\nname = "cosine"\nwarmup_steps = 7\n[scheduler.kwargs]\nmin_lr_ratio = 0.1\nnum_cycles = 0.5',
            {
                "training.scheduler.type": "cosine",
                "training.scheduler.warmup_steps": 7,
                "training.scheduler.min_lr_ratio": 0.1,
                "training.scheduler.num_cycles": 1,
            },
        ),
        (
            '[scheduler]\nname = "cosine_with_restarts"\n[scheduler.kwargs]\nnum_cycles = 3.0',
            {"training.scheduler.type": "cosine", "training.scheduler.num_cycles": 3},
        ),
        ("[dataset]\n[training]\nseed = 3", {"compute.seed": 3}),
        (
            '[dataset]\n[training]\nepochs = 5\nmax_train_steps = 9\nmixed_precision = "no"\n'
            "gradient_accumulation_steps = 2\ngradient_checkpointing = true\nlog_every_steps = 4",
            {
                "training.epochs": 5,
                "training.max_steps": 9,
                "training.mixed_precision": "no",
                "training.gradient_accumulation_steps": 2,
                "training.gradient_checkpointing": True,
                "training.log_interval": 4,
            },
        ),
        ("[dataset]\n[training]\nmax_train_steps = 0", {}),
        ('[dataset]\ncache_dir = "/scratch"', {"data.loading.cache_dir": "/scratch"}),
        ("[dataset]\n[training]\neval_mmd_samples = 9", {"training.validation.num_generated": 9}),
        (
            '[dataset]\n[logging]\nwandb_project = "a"\nwandb_entity = "b"\nrun_name = "c"',
            {"logging.wandb_project": "a", "logging.wandb_entity": "b", "logging.run_name": "c"},
        ),
        (
            "[dataset]\n[training]\ncheckpoint_interval = 5\ncheckpoint_total_limit = 2",
            {"training.checkpointing.interval": 5, "training.checkpointing.total_limit": 2},
        ),
        (
            '[dataset]\n[training]\nresume = "runs/a/checkpoint-5"',
            {"training.resume.enabled": True, "training.resume.checkpoint": "runs/a/checkpoint-5"},
        ),
        ("[dataset]\n[training]\nresume = false", {}),
        (
            "[dataset]\n[training]\ngradient_clip_norm = 2.0\nsnr_gamma = 5.0",
            {"training.optimizer.gradient_clip_norm": 2.0, "model.diffusion.snr_gamma": 5.0},
        ),
        (
            "[dataset]\n[training]\nema_decay = 0.9\nema_power = 0.5\nema_inv_gamma = 2.0\nema_update_after_step = 3",
            {
                "training.ema.decay": 0.9,
                "training.ema.power": 0.5,
                "training.ema.inv_gamma": 2.0,
                "training.ema.update_after_step": 3,
                "training.ema.update_every": 10,
            },
        ),
        *(
            (f"[dataset]\n[training]\n{name} = false", {"training.ema.warmup": False, "training.ema.update_every": 10})
            for name in ("ema_use_ema_warmup", "ema_use_warmup", "ema_warmup")
        ),
        (
            '[dataset]\n[training]\nallow_tf32 = false\ncompile_model = true\ncompile_mode = "max-autotune"',
            {
                "training.performance.use_tf32": False,
                "training.performance.compile_model": True,
                "training.performance.compile_mode": "max-autotune",
            },
        ),
        (
            '[dataset]\n[training]\neval_strategy = "steps"\neval_num_steps = 6\ninitial_eval = true',
            {"training.validation.interval": 6, "training.validation.at_start": True},
        ),
        (
            '[dataset]\n[training]\neval_strategy = "epoch"\neval_num_steps = 6',
            {"training.validation.interval": 1, "training.validation.unit": "epochs"},
        ),
        (
            "[dataset]\n[training]\neval_num_examples = 9\neval_gen_seed = 4",
            {"training.visualization.num_samples": 9, "training.visualization.seed": 4},
        ),
        (
            '[dataset]\n[training]\noutput_dir = "runs/a"\n[logging]\ntensorboard = true\nlog_dir = "runs/a/tb"',
            {"output.base_dir": "runs/a", "logging.tensorboard": True, "output.subdirs.logs": "tb"},
        ),
        (
            CONDITIONED + "[inference]\ndenoising_steps = 30\ncfg_scale = 2.0",
            {
                "model.conditioning.type": "class",
                "generation.sampling.steps": 30,
                "generation.sampling.guidance_scale": 2.0,
            },
        ),
    ],
)
def test_the_flat_toml_becomes_todays(text: str, expected: dict[str, Any]) -> None:
    translation = of_toml(text)
    assert translation.layout == FLAT_TOML and not translation.problems
    assert flat(translation.tables) == expected | FLOW


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[settings]\nconfig = "a"', "settings.config"),
        ('[settings]\ntrainer = "diffusion"', "settings.trainer"),
        ("[dataset]\ncenter_crop = true", "dataset.center_crop"),
        ("[dataset]\ncenter_crop = false", "dataset.center_crop"),
        ("[objective]\nflow_match_timesteps = 1000", "objective.flow_match_timesteps"),
        ('[optimizer]\nname = "adamw_8bit"', "optimizer.name"),
        ('[dataset]\n[model.lora]\nbias = "none"', "model.lora.bias"),
        ('[dataset]\n[logging]\nwandb_entity = "a"', "logging.wandb_entity"),
        ('[dataset]\n[logging]\nrun_name = "a"', "logging.run_name"),
        ("[model.extras]\ncfg_dropout = 0.1", "model.extras.cfg_dropout"),
        ("[inference]\ncfg_scale = 2.0", "inference.cfg_scale"),
    ],
)
def test_an_old_key_without_an_effect_today_is_told_with_the_reason(text: str, key: str) -> None:
    [line] = [line for line in summary(of_toml(text)) if "left behind" in line]
    assert line.startswith(f"  {key} = ") and len(line.split("left behind: ")[1]) > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[settings]\ntrainer = "gan"', "[settings] trainer: expected 'diffusion', found 'gan'"),
        ('[objective]\nprediction_type = "eps"', "expected one of 'vector_field', 'epsilon', 'sample', found 'eps'"),
        ("[dataset]\nbtach_size = 3", "[dataset] btach_size: unknown key (did you mean 'batch_size'?)"),
        ("[dataset.extras]\nnoise = 3", "[dataset.extras] noise: unknown key"),
        (
            "[model.extras]\nnum_layer = 3",
            "[model.architecture] num_layer (here model.extras.num_layer): unknown key (d",
        ),
        (
            "[optimizer]\nlearning_rate = 0",
            "[training.optimizer] learning_rate (here optimizer.learning_rate): expected a number greater than 0",
        ),
        (
            "[dataset]\nbatch_size = 3\n[data.loading]\nbatch_size = 4",
            "[data.loading] batch_size: 4 as data.loading.batch_size and 3 as dataset.batch_size; expected one",
        ),
        (
            "[dataset]\neval_batch_size = 3\n[training]\neval_batch_size = 4",
            "3 as dataset.eval_batch_size and 4 as training.eval_batch_size",
        ),
        ("[dataset]\nrandom_flip = true", "reverses time in EEG"),
        ("[model.extras]\nd_ffs = [1, 2, 3]", "expected the same multiple of each of the widths"),
        ("[dataset]\n[training]\nema_decay = 0.9\nema = 3", "a value in the place of its table"),
        ("dataset = 3", "dataset: unknown key"),
        (
            f"[dataset]\nbatch_size = 0x{'f' * 4000}",
            "batch_size: expected text, or a number of at most 64 bits, found ",
        ),
        (
            f"[model.extras]\nd_ffs = [1{'0' * 400}, 2, 3]",
            "d_ffs: expected text, or a number of at most 64 bits",
        ),
        (
            '[scheduler]\nname = "cosine"\n[scheduler.kwargs]\nnum_cycles = 2',
            "2 waves of 'cosine' have no counterpart; expected 0.5, once down, or the name 'cosine_with_restarts'",
        ),
        ("[training.scheduler]\nT_max = 'car'", "expected a valid integer, found 'car'"),
    ],
)
def test_a_mistake_in_an_old_file_is_one_line_with_the_keys_that_it_has(
    tmp_path: Path, text: str, message: str
) -> None:
    lines = lines_of(tmp_path / "old.toml", text)
    assert [line for line in lines if message in line], lines


def test_a_value_under_both_names_may_be_the_same(tmp_path: Path) -> None:
    path = tmp_path / "both.toml"
    path.write_text("[dataset]\nname = '/a'\nbatch_size = 3\n[data.loading]\nbatch_size = 3\n")
    assert experiments.load(path).data.loading.batch_size == 3


# The YAML layouts -----------------------------------------------------------------------------------------------------


def test_both_yaml_layouts_are_the_same_experiment(tmp_path: Path) -> None:
    (tmp_path / "flat.yaml").write_text(older_files.FLAT_YAML.format(root="/pictures"))
    (tmp_path / "grouped.yml").write_text(older_files.GROUPED_YAML.format(root="/pictures"))
    flat_one, grouped = experiments.load(tmp_path / "flat.yaml"), experiments.load(tmp_path / "grouped.yml")
    assert translation_of(tmp_path / "flat.yaml").layout == FLAT_YAML
    assert translation_of(tmp_path / "grouped.yml").layout == GROUPED_YAML
    assert flat_one == grouped


def test_the_yaml_of_pictures_becomes_todays() -> None:
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
        "data.loading.pin_memory": True,
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
        "training.checkpointing.interval": 1,
        "training.checkpointing.unit": "epochs",
        "training.checkpointing.save_best_only": False,
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
        ("validation_rules: {warn_if_batch_size_small: 1}", {"validation_rules.warn_if_batch_size_small": True}),
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
def test_values_of_the_yaml_layouts(text: str, expected: dict[str, Any]) -> None:
    translation = of_yaml(text)
    assert not translation.problems
    assert flat(translation.tables).items() >= expected.items()


def test_what_has_no_effect_in_an_unconditional_model_is_left_behind_and_told() -> None:
    text = """
model: {num_classes: null, class_dropout_prob: 0.1}
data: {val_path: null}
training: {scheduler: null, scheduler_kwargs: {T_max: 200, eta_min: 1.0e-6}}
validation: {enabled: true}
generation: {guidance_scale: 3.0}
"""
    translation = of_yaml(text)
    assert not translation.problems
    assert {left.old: left.value for left in translation.left} == {
        "model.class_dropout_prob": 0.1,
        "training.validation.enabled": True,
        "training.scheduler_kwargs.T_max": 200,
        "training.scheduler_kwargs.eta_min": 1.0e-6,
        "generation.guidance_scale": 3.0,
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
            "[training.optimizer] learning_rate (here training.learning_rate): expected",
        ),
        ("training: {optimizer_kwargs: {weigth_decay: 0.1}}", "unknown key (did you mean 'weight_decay'?)"),
        ("training: {scheduler_kwargs: {gama: 0.1}}", "gama: unknown key (did you mean 'gamma'?)"),
        ("model: {chanels: 3}", "[model] chanels: unknown key"),
        ("a: 1\na: 2", "'a' is given twice"),
        ("a: [", "not valid YAML: "),
        ("- 1", "not valid YAML: expected tables, found list"),
        ("", "not valid YAML: expected tables, found NoneType"),
        ("a: &a [*a]", "not valid YAML: "),
        ("? [1, 2]\n: 3", "not valid YAML: "),
        ("no: 3", "False: unknown key"),
        ("training: {epochs: 2020-01-01}", "epochs: expected text, or a number of at most 64 bits, found 2020-01-01"),
        ("training: {epochs: !!bool x}", "not valid YAML: expected tables of plain values: KeyError: 'x'"),
        ("training: {epochs: !!timestamp x}", "not valid YAML: expected tables of plain values: AttributeError"),
        ('data: {train_path: "\\uD800"}', "not valid YAML: expected tables of plain values: UnicodeEncodeError"),
        (f"training: {{scheduler_kwargs: {{eta_min: {'9' * 400}}}}}", "eta_min: expected text, or a number of at most"),
        (f"generation: {{samples_per_class: 0x{'f' * 4000}}}", "not valid YAML: expected tables of plain values: Val"),
        (f"training: {{epochs: {'[' * 200}{']' * 200}}}", "epochs: expected text, or a number of at most 64 bits"),
        ("training: 3", "training: expected a table, found 3"),
        ("training: {scheduler_kwargs: {eta_min: 0.1}}", "expected a learning rate from 0 to the highest, 0.0001, fou"),
        ("training: {optimizer_kwargs: {weigth: null}}", "weigth (here training.optimizer_kwargs.weigth): unknown key"),
        ("training: {epoch: null}", "[training] epoch: unknown key (did you mean 'epochs'?)"),
        (
            "training: {checkpointing: {interval: 5, save_frequency: 5}}",
            "5 as training.checkpointing.interval (steps) and 5 as training.checkpointing.save_frequency (epochs)",
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
def test_a_path_to_the_checkpoint_to_sample_from_is_its_name_today(written: str, name: str) -> None:
    translation = of_yaml(f"generation: {{checkpoint: {written}}}\nmodel: {{num_classes: 3}}")

    assert flat(translation.tables)["generation.checkpoint"] == name


def test_a_checkpoint_that_has_no_name_today_is_told_as_the_argument_of_sample() -> None:
    told = summary(of_yaml("generation: {checkpoint: runs/a/epoch_7.pt}\nmodel: {num_classes: 3}"))

    assert "  generation.checkpoint = 'runs/a/epoch_7.pt': left behind: is the argument of" in "\n".join(told).replace(
        '"', "'"
    )


def test_a_file_that_generated_is_told_the_command_that_does() -> None:
    text = (
        "mode: generate\ngeneration: {checkpoint: runs/a, num_samples: 9, guidance_scale: 2.0}\nmodel: {num_classes: 3}"
    )
    told = "\n".join(summary(of_yaml(text)))
    assert "`signal-diffusion sample runs/a --num 9 --guidance-scale 2.0`" in told


def test_an_override_decides_what_has_an_effect(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(older_files.FLAT_YAML.format(root="/pictures"))
    overrides = ("model.diffusion.beta_schedule=linear", "model.diffusion.num_timesteps=1000")
    assert experiments.load(tmp_path / "old.yaml", overrides).model.diffusion.beta_end == 0.03


OVERRIDDEN = """
model: {num_classes: 2}
training:
  epochs: 10
  optimizer: adam
  learning_rate: 0.001
  scheduler: cosine
  scheduler_kwargs: {T_max: 10, eta_min: 1e-4}
  save_frequency: 5
generation: {samples_per_class: 4}
"""


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ((), {"training.validation.enabled": False, "training.scheduler.min_lr_ratio": 0.1}),
        (("training.checkpointing.interval=7",), {"training.checkpointing.unit": "steps"}),
        (("training.visualization.interval=7",), {"training.visualization.unit": "steps"}),
        (
            ("training.visualization.interval=7", "training.visualization.unit=epochs"),
            {"training.visualization.unit": "epochs"},
        ),
        (("data.paths.val=/v",), {"training.validation.enabled": True}),
        (("data.paths.root=/r",), {"training.validation.enabled": True}),
        (("training.optimizer.type=adamw",), {"training.optimizer.weight_decay": 0.01}),
        (("training.optimizer.learning_rate=0.01",), {"training.scheduler.min_lr_ratio": 0.01}),
        (("training.optimizer.learning_rate=1e-5", "training.scheduler.min_lr_ratio=0"), {}),
        (("training.epochs=20",), {"training.scheduler.T_max": 10}),
        (("model.conditioning.num_classes=3",), {"training.visualization.num_samples": 12}),
        (("model.conditioning.type=none",), {"training.visualization.guidance_scale": 1.0}),
    ],
)
def test_an_override_wins_over_what_is_translated_and_implied(
    overrides: tuple[str, ...], expected: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "old.yaml").write_text(OVERRIDDEN)
    experiment = experiments.load(tmp_path / "old.yaml", ("data.paths.train=/t", *overrides))
    assert flat(dataclasses.asdict(experiment)).items() >= expected.items()


def test_an_override_of_an_interval_counts_steps_in_a_file_of_today_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "new.toml"
    path.write_text('[data]\nsource = "synthetic"\n[training.validation]\ninterval = 2\nunit = "epochs"')
    assert experiments.load(path, ("training.validation.interval=7",)).training.validation.unit == "steps"
    line = '  training.validation.unit = "epochs": left behind: --set counts steps'
    assert caplog.messages == [f"{path}: not read of it:\n{line}"]


def test_an_override_of_the_dataset_is_where_it_says(tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text('[dataset]\nname = "someone/eeg"')
    data = experiments.load(tmp_path / "old.toml", ("data.paths.root=/here",)).data
    assert (data.source, data.paths.root) == ("dataset", "/here")


def test_an_override_that_is_no_text_is_refused(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "a.toml", "", "model.name=\udcff")[0].startswith("--set 'model.name=\\udcff': expected")
    [line] = lines_of(tmp_path / "a.toml", '[data]\nsource = "synthetic"', "training.epochs=2020-01-01")
    assert line == "--set: [training] epochs: expected a valid integer, found '2020-01-01'"


def test_a_number_with_an_exponent_is_a_number_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("training: {learning_rate: 1e-4, max_steps: 10}\ndata: {train_path: /t}")
    assert experiments.load(tmp_path / "old.yaml").training.optimizer.learning_rate == 1e-4


def test_a_value_in_the_place_of_a_table_is_told_once(tmp_path: Path) -> None:
    assert lines_of(tmp_path / "old.yaml", "training: 3\ndata: {train_path: /t}") == [
        "training: expected a table, found 3"
    ]


def test_an_override_takes_todays_keys(tmp_path: Path) -> None:
    [line] = lines_of(tmp_path / "a.toml", "", "training.checkpoint_interval=3")
    assert line.endswith("a key of an older layout; today it is training.checkpointing.interval")


# Today's layout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_file_of_todays_layout_is_left_as_it_is(path: Path) -> None:
    translation = translation_of(path)
    assert translation.tables == tomllib.loads(path.read_text())
    assert translation.layout == TODAY and summary(translation) == []


def test_a_table_of_today_beside_older_ones_changes_nothing_else() -> None:
    old = CONDITIONED + 'num_classes = 5\n[optimizer]\nname = "sgd"'
    for text in (old, old + '\n[compute]\ndevice = "cpu"'):
        tables = flat(of_toml(text).tables)
        assert tables.items() >= {**FLOW, "model.conditioning.num_classes": 5}.items()


def test_no_key_of_today_is_an_older_one_there() -> None:
    today = flat(dataclasses.asdict(Experiment()))
    everywhere = [row for row in ROWS if not row.only or TODAY in row.only]
    assert [row.old for row in everywhere if row.old in today and row.new != (row.old,)] == []


def test_older_keys_work_in_a_file_of_todays_layout() -> None:
    text = (
        '[data.paths]\nroot = "/a"\n[compute]\nseed = 1\n[dataset]\nbatch_size = 3\n[training]\ncheckpoint_interval = 4'
    )
    translation = of_toml(text)
    assert translation.layout == TODAY
    assert flat(translation.tables) == {
        "data.paths.root": "/a",
        "compute.seed": 1,
        "data.loading.batch_size": 3,
        "training.checkpointing.interval": 4,
    }


# What is told ---------------------------------------------------------------------------------------------------------


def test_one_warning_lists_every_key_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "old.toml"
    path.write_text(older_files.FLAT_TOML.format(root="/a"))
    with caplog.at_level(logging.WARNING):
        experiments.load(path)
        experiments.load(path)
    [record] = caplog.records
    told = record.getMessage()
    assert told.startswith(f"{path}: an older layout (flat TOML), read as today's; ")
    written = set(flat(tomllib.loads(path.read_text())))
    same = {"model.name", "training.mixed_precision", "logging.tensorboard"}
    assert [key for key in written - same if told.count(f"\n  {key} ") != 1] == []


def card(name: str, *shape: int) -> SimpleNamespace:
    return SimpleNamespace(representation={"name": name}, shape=shape, channels=("Cz",) * 19, window=2048)


def test_what_an_older_file_says_of_the_dataset_is_checked() -> None:
    pictures, series = card("db-iq", 3, 64, 64), card("timeseries", 1, 19, 2048)
    right = (
        "[dataset]\nresolution = 64\n[model]\nsample_size = [64, 64]\n[model.extras]\nin_channels = 3\nout_channels = 3"
    )
    experiments.check_expected(of_toml(right).expected, pictures)
    right = "[dataset]\nresolution = 2048\n[dataset.extras]\nn_eeg_channels = 19\nsequence_length = 2048"
    experiments.check_expected(of_toml(right).expected, series)
    wrong = "[dataset]\nresolution = 32\n[model.extras]\nin_channels = 1\n[dataset.extras]\nn_eeg_channels = 20"
    with pytest.raises(UserError) as caught:
        experiments.check_expected(of_toml(wrong).expected, pictures)
    assert [line.split(", but the dataset has ")[0] for line in caught.value.lines] == [
        "[dataset] resolution: 32",
        "[dataset.extras] n_eeg_channels: 20",
        "[model.extras] in_channels: 1",
    ]


def test_the_size_of_a_latent_model_is_that_of_its_autoencoder() -> None:
    translation = of_toml("[model]\nlatent_space = true\nsample_size = 8\n[model.extras]\nin_channels = 16")
    assert not translation.expected
    assert [left.reason for left in translation.left] == ["follows from the autoencoder"] * 2
