"""The flat TOML: the translation of every key, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signal_diffusion.config.legacy.report import summary
from signal_diffusion.config.legacy.translation import FLAT_TOML
from signal_diffusion.experiment.loading import load_experiment
from tests.config.older_files import lines_of, of_toml, said

FLOW = {"model.diffusion.method": "rectified_flow"}
EMPTY = ("caption_column", "class_column", "val_split", "train_split", "image_column")
NEUTRAL = (*("mapping_cond_dim = 0", "augment_wrapper = false", "augment_prob = 0.0", "train_text_encoder = false"),)
CONDITIONED = '[model]\nconditioning = "classes"\n'
TIMESERIES = {"data.representation": "timeseries"}
SERIES = '[data]\ndata_type = "timeseries"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[data]\noutput_type = "db-iq"\n[dataset]', {"data.representation": "db-iq"}),
        ('[data]\noutput_type = "db-only"\ndata_type = "timeseries"\n[dataset]', {"data.representation": "timeseries"}),
        ('[data]\ndata_type = "spectrogram"\n[dataset]', {"data.representation": "db-only"}),
        ('[dataset]\nname = "/data/eeg"', {"data.paths.root": "/data/eeg"}),
        ('[dataset]\nidentifier = "data/eeg"', {"data.paths.root": "data/eeg"}),
        ('[dataset]\nname = "someone/eeg"', {"data.paths.root": "someone/eeg"}),
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
            "[model.extras]\nwidths = [64, 128, 256]\nd_ffs = [512, 512, 512]\ndropout_rate = [0.05, 0.05, 0.05]",
            {
                "model.architecture.widths": [64, 128, 256],
                "model.architecture.ff_widths": [512, 512, 512],
                "model.architecture.dropout_rates": [0.05, 0.05, 0.05],
            },
        ),
        (
            '[model]\nname = "localmamba"\n[model.extras]\nmapping_width = 512\nmapping_d_ff = 768\n'
            "mapping_dropout_rate = 0.1\ndropout_rate = 0.2",
            {
                "model.name": "localmamba",
                "model.architecture.mapping_width": 512,
                "model.architecture.mapping_ff_width": 768,
                "model.architecture.mapping_dropout_rate": 0.1,
                "model.architecture.dropout_rate": 0.2,
            },
        ),
        (
            '[model]\nname = "hourglass"\n[model.extras]\nmapping_depth = 0\nmapping_d_ff = 768',
            {"model.name": "hourglass", "model.architecture.mapping_depth": 0},
        ),
        (
            '[model]\nname = "sd35"\nconditioning = "caption"\n[model.extras]\nskip_t5 = true',
            {"model.name": "sd35", "model.conditioning.type": "caption", "model.conditioning.skip_t5": True},
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
        ('[objective]\nprediction_type = "vector_field"', {"model.diffusion.prediction": "velocity"} | FLOW),
        (
            '[objective]\nprediction_type = "epsilon"\nnum_timesteps = 9',
            {"model.diffusion.prediction": "epsilon"} | FLOW,
        ),
        ('[objective]\nprediction_type = "sample"', {"model.diffusion.prediction": "sample"} | FLOW),
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
        (f'[dataset]\nname = "a/{"b" * 300}"', {"data.paths.root": "a/" + "b" * 300}),
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
                "training.max_steps": 9,
                "training.mixed_precision": "no",
                "training.gradient_accumulation_steps": 2,
                "training.gradient_checkpointing": True,
                "training.log_interval": 4,
            },
        ),
        ("[dataset]\n[training]\nmax_train_steps = 0", {}),
        ('[dataset]\ncache_dir = "/scratch"', {"data.loading.cache_dir": "/scratch"}),
        (SERIES + "[training]\neval_mmd_samples = 9", TIMESERIES | {"training.validation.num_generated": 9}),
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
            },
        ),
        *(
            (f"[dataset]\n[training]\n{name} = false", {"training.ema.warmup": False})
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
                "training.visualization.guidance_scale": 2.0,
            },
        ),
    ],
)
def test_the_flat_toml_is_translated(text: str, expected: dict[str, Any]) -> None:
    translation = of_toml(text)
    assert translation.layout == FLAT_TOML and not translation.problems
    assert said(translation) == expected


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
        *((f'[dataset]\n{key} = ""', f"dataset.{key}") for key in EMPTY),
        *((f"[dataset]\nnum_classes = {number}", "dataset.num_classes") for number in (0, 4, 5, 102)),
        ('[dataset]\nnum_classes = 5\n[model]\nconditioning = "caption"', "dataset.num_classes"),
        *((f"[model.extras]\n{line}", f"model.extras.{line.split()[0]}") for line in NEUTRAL),
        ("[dataset]\n[model]\ntrain_text_encoder = false", "model.train_text_encoder"),
        ("[dataset]\n[training]\ntrain_text_encoder = false", "training.train_text_encoder"),
    ],
)
def test_a_dropped_key_is_reported_with_the_reason(text: str, key: str) -> None:
    [line] = [line for line in summary(of_toml(text))[0] if line.startswith(f"  {key} = ")]
    assert len(line.partition(": ")[2]) > 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[settings]\ntrainer = "gan"', "[settings] trainer: expected 'diffusion', found 'gan'"),
        ('[objective]\nprediction_type = "eps"', "expected one of 'vector_field', 'epsilon', 'sample', found 'eps'"),
        ("[dataset]\nbtach_size = 3", "[dataset] btach_size: unknown key (did you mean 'batch_size'?)"),
        ("[dataset.extras]\nnoise = 3", "[dataset.extras] noise: unknown key"),
        (
            "[dataset]\n[training]\ncheckpoint_intervall = 3",
            "[training] checkpoint_intervall: unknown key (did you mean 'checkpoint_interval'?)",
        ),
        ("[dataset.paths]\nroot = 3", "[dataset] paths: unknown key"),
        ("[dataset]\n'a.b' = 3", "[dataset] a: unknown key"),
        (
            "'training.epochs' = 3\n[dataset]\n[training]\nepochs = 4",
            "[training] epochs: is given twice, once in quotes",
        ),
        (
            "[model.extras]\nnum_layer = 3",
            "[model.architecture] num_layer (in this file model.extras.num_layer): unknown key (d",
        ),
        (
            "[optimizer]\nlearning_rate = 0",
            "[training.optimizer] learning_rate (in this file optimizer.learning_rate): expected a number greater",
        ),
        (
            "[dataset]\nbatch_size = 3\n[data.loading]\nbatch_size = 4",
            "[data.loading] batch_size: 4 as data.loading.batch_size and 3 as dataset.batch_size conflict; remove one",
        ),
        (
            "[dataset]\neval_batch_size = 3\n[training]\neval_batch_size = 4",
            "3 as dataset.eval_batch_size and 4 as training.eval_batch_size",
        ),
        (SERIES + "[dataset]\nrandom_flip = true", "reverses time in EEG"),
        ('[dataset]\n[model.lora]\nbias = "all"', "[model.lora] bias: expected 'none', found 'all': LoRA never trains"),
        ("[model.extras]\ntrain_text_encoder = true", "train_text_encoder: expected False, found True: text encoders"),
        ("[model.extras]\nmapping_cond_dim = 8", "mapping_cond_dim: expected 0, found 8"),
        ("[model.extras]\naugment_wrapper = true", "augment_wrapper: expected 0, found True"),
        (
            '[model]\nname = "hourglass"\n[model.extras]\nd_ffs = [1, 2]',
            "architecture: numbers of levels differ: depths 3, widths 3, kernel_sizes 3, ff_widths 2",
        ),
        ("[dataset]\n[training]\nema_decay = 0.9\nema = 3", "[training] ema: expected a table, found 3"),
        ("dataset = 3", "dataset: unknown key"),
        (
            f"[dataset]\nbatch_size = 0x{'f' * 4000}",
            "batch_size: expected a string or a number of at most 64 bits, found ",
        ),
        (
            f"[model.extras]\nd_ffs = [1{'0' * 400}, 2, 3]",
            "d_ffs: expected a string or a number of at most 64 bits",
        ),
        (
            '[scheduler]\nname = "cosine"\n[scheduler.kwargs]\nnum_cycles = 2',
            "2 is not supported for 'cosine'; expected 0.5 (a single decay), or scheduler.name = 'cosine_with_r",
        ),
        ("[training.scheduler]\nT_max = 'car'", "expected a valid integer, found 'car'"),
    ],
)
def test_a_mistake_in_an_older_file_is_one_line_with_its_own_keys(tmp_path: Path, text: str, message: str) -> None:
    lines = lines_of(tmp_path / "old.toml", text)
    assert [line for line in lines if message in line], lines


def test_equal_values_under_the_old_and_new_name_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "both.toml"
    path.write_text("[dataset]\nname = '/a'\nbatch_size = 3\n[data.loading]\nbatch_size = 3\n")
    assert load_experiment(path).data.loading.batch_size == 3


# What the layout leaves unsaid ----------------------------------------------------------------------------------------

UNSAID = {
    "compute.seed": 42,
    "data.representation": "image",
    "data.loading.drop_last": False,
    "model.diffusion.method": "rectified_flow",
    "model.diffusion.prediction": "epsilon",
    "training.epochs": 1,
    "training.ema.update_every": 1,
    "training.scheduler.type": "constant",
    "training.scheduler.warmup_steps": 0,
    "training.validation.at_start": True,
    "training.validation.num_examples": 0,
    "training.visualization.at_start": True,
    "training.visualization.interval": 500,
    "training.visualization.unit": "steps",
}


def implied(text: str) -> dict[str, Any]:
    return {key: value for default in of_toml(text).implied for key, value in default.values.items()}


def test_what_the_flat_toml_leaves_unsaid_is_implied() -> None:
    assert implied("[dataset]") == UNSAID


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[model.lora]\nenabled = true", {"model.lora.rank": 4}),
        (
            '[model]\nname = "localmamba"\n[model.extras]\nmapping_width = 256',
            {"model.architecture.mapping_depth": 2},
        ),
        ("[dataset]\n[training]\neval_num_steps = 70", {"training.visualization.at_start": True}),
        ('[scheduler]\nname = "linear"', {"training.scheduler.min_lr_ratio": 0.0}),
        ("[dataset]\n[training]\neval_num_steps = 70", {"training.visualization.interval": 70}),
        (
            '[dataset]\n[training]\neval_strategy = "epoch"',
            {"training.visualization.interval": 1, "training.visualization.unit": "epochs"},
        ),
        ('[dataset]\n[training]\neval_strategy = "no"', {"training.visualization.enabled": False}),
        ('[dataset]\nname = "someone/eeg"', {"data.source": "hub"}),
        (
            "[dataset]\n[model]\nlatent_space = true",
            {"model.autoencoder.path": "stabilityai/stable-diffusion-3.5-medium"},
        ),
    ],
)
def test_some_defaults_depend_on_what_the_file_says(text: str, expected: dict[str, Any]) -> None:
    assert implied(f"[dataset]\n{text.removeprefix('[dataset]')}").items() >= expected.items()


def test_the_default_autoencoder_is_told_after_what_the_layout_implies() -> None:
    lines = summary(of_toml("[model.extras]\nlatent_space = true"))[0]
    [place] = [number for number, line in enumerate(lines) if "model.autoencoder.path" in line]
    assert all("this layout" in line for line in lines[:place]) and "this layout" not in "".join(lines[place + 1 :])


def test_pictures_are_resized_to_the_resolution_and_may_be_mirrored(tmp_path: Path) -> None:
    text = "[dataset]\nname = 'someone/flowers'\nresolution = 64\nrandom_flip = true\n[model]\nsample_size = [64, 64]"
    (tmp_path / "old.toml").write_text(text)
    data = load_experiment(tmp_path / "old.toml").data
    assert (data.image_size, data.augmentation.horizontal_flip, data.source) == (64, True, "hub")


def test_without_an_evaluation_before_training_there_is_no_preview_before_it() -> None:
    found = implied("[dataset]\n[training]\ninitial_eval = false")
    assert "training.visualization.at_start" not in found and found["training.visualization.interval"] == 500
