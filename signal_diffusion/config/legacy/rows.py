"""The keys of older layouts; reading, migration, warnings and documentation all use this one table.

The flat TOML has short keys in [dataset], [objective], [optimizer]; the flat YAML and the grouped YAML are for
experiments with images, a U-Net and DDPM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signal_diffusion.config.legacy import outcomes as to
from signal_diffusion.config.legacy import toml_values, yaml_values
from signal_diffusion.config.legacy.outcomes import Convert

__all__ = [
    "CURRENT",
    "FLAT_TOML",
    "FLAT_TOML_TABLES",
    "FLAT_YAML",
    "GROUPED_YAML",
    "IMPLIED",
    "LEGACY_TABLES",
    "ROWS",
    "Row",
]

CURRENT = "current layout"
FLAT_TOML = "flat TOML"
FLAT_YAML = "flat YAML"
GROUPED_YAML = "grouped YAML"
YAML = (FLAT_YAML, GROUPED_YAML)


@dataclass(frozen=True, kw_only=True)
class Row:
    """An older key, and the current keys that replace it."""

    old: str
    """Dotted; * as the last part stands for every other key of the table."""
    new: tuple[str, ...] = ()
    """Current keys that it may set; () = derived or dropped."""
    convert: Convert | None = None
    """How to convert the value; None = same value, under the only new key."""
    note: str = ""
    """How the value changes, for docs/migration.md."""
    layouts: tuple[str, ...]
    """Layouts that have this key."""
    only: tuple[str, ...] = ()
    """Layouts in which the row applies, if the key means something else in others; () = all, the current one too."""


def _rows(layouts: tuple[str, ...], *rows: tuple[Any, ...], only: tuple[str, ...] = ()) -> tuple[Row, ...]:
    """Rows from (old key, new keys separated by spaces, note, conversion); the last two are optional."""
    made = []
    for old, new, *rest in rows:
        note, convert = (*rest, None)[:2] if rest else ("", None)
        made.append(Row(old=old, new=tuple(new.split()), convert=convert, note=note, layouts=layouts, only=only))
    return tuple(made)


def _both(*rows: tuple[Any, ...]) -> tuple[Row, ...]:
    """Rows from (key in the flat YAML, key in the grouped YAML, and the rest as in `_rows`)."""
    flat = _rows((FLAT_YAML,), *((flat, *rest) for flat, _, *rest in rows))
    return flat + _rows((GROUPED_YAML,), *((grouped, *rest) for _, grouped, *rest in rows))


_VALIDATION = "training.validation"
_PREVIEWS = "training.visualization"
_CARD = "derived from the dataset, and checked against it"
_OFF = "0 or less: off"
_FOLDER = "split into the common parent folder and the rest of the path"

_FLAT_TOML_DATA = _rows(
    (FLAT_TOML,),
    ("settings.config", "", "ignored: the file is given on the command line",
     to.ignored("the file is given on the command line")),
    ("settings.trainer", "", 'ignored; other than "diffusion" is an error',
     to.ignored("determined by the command", "diffusion")),
    ("data.output_type", "data.representation", "db-only, db-iq, db-polar", toml_values.output_type),
    ("data.data_type", "data.representation", '"timeseries"; with "spectrogram", output_type decides',
     toml_values.data_type),
    ("dataset.name", "data.paths.root data.source", "a folder, or owner/name on the Hub", toml_values.dataset_name),
    ("dataset.identifier", "data.paths.root data.source", "same as dataset.name", toml_values.dataset_name),
    ("dataset.train_split", "data.paths.train"),
    ("dataset.val_split", "data.paths.val"),
    ("dataset.batch_size", "data.loading.batch_size"),
    ("dataset.num_workers", "data.loading.num_workers"),
    ("dataset.eval_batch_size", "training.validation.batch_size"),
    ("training.eval_batch_size", "training.validation.batch_size"),
    ("dataset.resolution", "", _CARD, to.expected("size")),
    ("model.sample_size", "", _CARD, to.expected("model's size")),
    ("dataset.extras.n_eeg_channels", "", _CARD, to.expected("electrodes")),
    ("dataset.extras.sequence_length", "", _CARD, to.expected("samples")),
    ("dataset.center_crop", "", "true: always the case now; false is no longer supported",
     to.always(True, "images are always cropped at the centre")),
    ("dataset.random_flip", "data.augmentation.horizontal_flip", "an error for EEG: it reverses time"),
    ("dataset.image_column", "data.columns.image data.columns.signal", "the second for time series",
     toml_values.image_column),
    ("dataset.caption_column", "data.columns.caption"),
    ("dataset.class_column", "data.columns.label"),
    ("dataset.gender_column", "data.columns.gender"),
    ("dataset.health_column", "data.columns.health"),
    ("dataset.age_column", "data.columns.age"),
    ("dataset.num_classes", "model.conditioning.num_classes", "", toml_values.num_classes),
    ("model.extras.num_classes", "model.conditioning.num_classes", "", toml_values.num_classes),
    ("dataset.max_train_samples", "data.loading.max_train_examples"),
    ("dataset.max_eval_samples", "data.loading.max_val_examples"),
    ("dataset.cache_dir", "data.loading.cache_dir", "downloads from the Hub stay in $HF_HOME"),
    ("dataset.extras.gaussian_noise_std", "data.augmentation.gaussian_noise_std"),
)  # fmt: skip

_FLAT_TOML_MODEL = _rows(
    (FLAT_TOML,),
    ("model.conditioning", "model.conditioning.type model.conditioning.attributes",
     "none, classes → class, caption, gend_hlth_age → attributes (gender, health, age)", toml_values.conditioning),
    ("model.name", "model.name", "stable-diffusion-3.5-medium, stable-diffusion-35 → sd35", toml_values.model_name),
    ("model.pretrained", "model.pretrained", "with model.revision appended after an @", toml_values.pretrained),
    ("model.revision", "model.pretrained", "appended after an @", toml_values.revision),
    ("model.latent_space", "model.autoencoder.enabled"),
    ("model.extras.latent_space", "model.autoencoder.enabled"),
    ("model.vae_tiling", "model.autoencoder.tiling"),
    ("model.extras.vae", "model.autoencoder.path"),
    ("model.extras.cfg_dropout", "model.conditioning.cfg_dropout"),
    ("model.extras.in_channels", "", _CARD, to.expected("channels")),
    ("model.extras.out_channels", "", _CARD, to.expected("channels")),
    ("model.extras.patch_size", "model.architecture.patch_size", "n → [n, n]; for time series [1, n]",
     toml_values.patch_size),
    ("model.extras.d_ffs", "model.architecture.mlp_ratio", "d_ffs / widths, which must be one ratio",
     toml_values.feed_forward_widths),
    ("model.extras.self_attns", "model.architecture.kernel_sizes model.architecture.attention_head_dim",
     "kernel_size and d_head of each level; global → kernel size 0", toml_values.self_attentions),
    ("model.extras.mapping_d_ff", "", "derived: mapping_width × mlp_ratio",
     to.ignored("is always mapping_width × mlp_ratio")),
    ("model.extras.mapping_dropout_rate", "", "no longer supported", to.ignored("no longer supported")),
    ("model.extras.*", "model.architecture.*", "all others, under the same names"),
    ("model.lora.bias", "", "none: always the case now; others are no longer supported",
     to.always("none", "LoRA never trains biases")),
    ("objective.prediction_type", "model.diffusion.prediction model.diffusion.method",
     "method is rectified_flow; vector_field → velocity, epsilon, sample", toml_values.prediction),
    ("objective.num_timesteps", "", "ignored: times are continuous", to.ignored("times are continuous")),
    ("objective.flow_match_timesteps", "", "ignored: times are continuous", to.ignored("times are continuous")),
)  # fmt: skip

_FLAT_TOML_TRAINING = _rows(
    (FLAT_TOML,),
    ("optimizer.name", "training.optimizer.type", "adamw_8bit → adamw", toml_values.optimizer_name),
    *((f"optimizer.{key}", f"training.optimizer.{key}") for key in ("learning_rate", "weight_decay", "betas", "eps")),
    ("scheduler.name", "training.scheduler.type training.scheduler.warmup_steps",
     "constant: no warm-up unless warmup_steps is set; constant_with_warmup → constant, cosine_with_* → cosine",
     toml_values.scheduler_name),
    ("scheduler.warmup_steps", "training.scheduler.warmup_steps"),
    ("scheduler.kwargs.min_lr_ratio", "training.scheduler.min_lr_ratio"),
    ("scheduler.kwargs.num_cycles", "training.scheduler.num_cycles",
     "cosine: only 0.5, → 1; cosine_with_restarts: the same number", toml_values.num_cycles),
    ("training.scheduler.T_max", "training.scheduler.T_max", "auto: the whole run", toml_values.t_max),
    ("training.seed", "compute.seed"),
    ("training.max_train_steps", "training.max_steps", _OFF, to.positive("no limit")),
    ("training.log_every_steps", "training.log_interval"),
    ("training.checkpoint_interval", "training.checkpointing.interval"),
    ("training.checkpoint_total_limit", "training.checkpointing.total_limit"),
    ("training.resume", "training.resume.enabled training.resume.checkpoint", "a checkpoint", toml_values.resume),
    *((f"training.ema_{key}", f"training.ema.{key}") for key in ("power", "inv_gamma", "update_after_step")),
    *((f"training.{key}", "training.ema.warmup") for key in ("ema_use_ema_warmup", "ema_use_warmup", "ema_warmup")),
    ("training.snr_gamma", "model.diffusion.snr_gamma", _OFF, to.positive("unweighted")),
    ("training.allow_tf32", "training.performance.use_tf32"),
    ("training.compile_model", "training.performance.compile_model"),
    ("training.compile_mode", "training.performance.compile_mode"),
    ("training.eval_strategy", f"{_VALIDATION}.interval {_VALIDATION}.unit {_VALIDATION}.enabled",
     "epoch → once an epoch; steps → eval_num_steps; no", toml_values.eval_strategy),
    ("training.eval_num_steps", f"{_VALIDATION}.interval {_VALIDATION}.enabled", "0 = never",
     toml_values.eval_num_steps),
    ("training.initial_eval", f"{_VALIDATION}.at_start"),
    ("training.eval_num_examples", f"{_PREVIEWS}.num_samples {_PREVIEWS}.enabled", "0 = none",
     toml_values.eval_num_examples),
    ("training.eval_gen_seed", f"{_PREVIEWS}.seed"),
    ("training.eval_mmd_samples", f"{_VALIDATION}.num_generated",
     "same number of samples, but compared by spectra and other metrics of EEG, not MMD"),
    ("training.eval_mmd_fallback_ntrain", "", "ignored: samples are compared with the validation examples",
     to.ignored("samples are compared with the validation examples")),
    ("training.output_dir", "output.base_dir"),
    ("logging.log_dir", "output.subdirs.logs", "inside the run directory", toml_values.log_dir),
    ("logging.wandb_project", "logging.wandb_project"),
    ("logging.wandb_entity", "logging.wandb_entity"),
    ("logging.run_name", "logging.run_name"),
    ("inference.denoising_steps", "generation.sampling.steps"),
    ("inference.cfg_scale", "generation.sampling.guidance_scale"),
)  # fmt: skip

_FLAT_TOML_ONLY = _rows(
    (FLAT_TOML,),
    ("model.num_classes", "model.conditioning.num_classes", "", toml_values.num_classes),
    only=(FLAT_TOML,),
)  # fmt: skip

_BOTH_YAML = _rows(
    YAML,
    ("experiment", "", 'ignored; other than "diffusion" is an error',
     to.ignored("determined by the command", "diffusion")),
    ("mode", "", "determined by the command; generate is now `signal-diffusion sample`", yaml_values.mode),
    ("data.return_labels", "", "derived from model.conditioning.type; a different value is an error",
     yaml_values.return_labels),
    ("validation_rules.require_labels_if_conditional", "validation_rules.require_labels_if_conditional"),
    ("validation_rules.warn_if_batch_size_small", "validation_rules.warn_if_batch_size_small",
     "positive number → true, 0 → false", yaml_values.on_or_off),
    ("debug.profile", "debug.profile"),
    ("debug.log_gradients", "debug.log_gradients"),
    ("training.resume.reset_optimizer", "training.resume.reset_optimizer"),
    ("training.resume.reset_scheduler", "training.resume.reset_scheduler"),
)  # fmt: skip

_FLAT_YAML = _rows(
    (FLAT_YAML,),
    ("device", "compute.device"),
    ("seed", "compute.seed", "null → 0", to.null_is(0)),
    *((f"model.{key}", f"model.architecture.{key}")
      for key in ("model_channels", "channel_multipliers", "use_attention")),
    *((f"model.{key}", f"model.diffusion.{key}")
      for key in ("num_timesteps", "beta_schedule", "beta_start", "beta_end")),
    ("data.train_path", "data.paths.train"),
    ("data.val_path", "data.paths.val", "null: no validation"),
    *((f"data.{key}", f"data.loading.{key}")
      for key in ("batch_size", "num_workers", "pin_memory", "shuffle_train", "drop_last")),
    ("data.horizontal_flip", "data.augmentation.horizontal_flip"),
    ("data.rotation_degrees", "data.augmentation.rotation_degrees"),
    ("data.color_jitter", "data.augmentation.color_jitter.enabled"),
    ("data.color_jitter_strength", "data.augmentation.color_jitter.strength"),
    ("output.log_dir", "output.base_dir output.subdirs.logs", _FOLDER,
     yaml_values.directory("logs", "output.subdirs.logs")),
    ("training.checkpoint_dir", "output.base_dir output.subdirs.checkpoints", _FOLDER,
     yaml_values.directory("checkpoints", "output.subdirs.checkpoints")),
    ("generation.output_dir", "output.base_dir output.subdirs.generated", _FOLDER,
     yaml_values.directory("generated", "output.subdirs.generated")),
    ("training.optimizer", "training.optimizer.type", "adam, adamw", to.named({}, other=True)),
    ("training.learning_rate", "training.optimizer.learning_rate"),
    ("training.optimizer_kwargs.*", "training.optimizer.*", "weight_decay, betas, eps"),
    ("training.scheduler", "training.scheduler.type", "null → constant", yaml_values.scheduler),
    ("training.scheduler_kwargs.T_max", "training.scheduler.T_max", "auto and epochs: the whole run",
     yaml_values.t_max),
    ("training.scheduler_kwargs.step_size", "training.scheduler.step_size"),
    ("training.scheduler_kwargs.gamma", "training.scheduler.gamma"),
    ("training.scheduler_kwargs.patience", "training.scheduler.patience"),
    ("training.use_ema", "training.ema.enabled"),
    ("training.save_best_only", "training.checkpointing.save_best_only"),
    ("validation.metric", f"{_VALIDATION}.metric"),
    ("validation.enabled", f"{_VALIDATION}.enabled"),
    *(row for table in ("generation", _PREVIEWS) for row in (
        (f"{table}.sample_images", f"{_PREVIEWS}.enabled"),
        (f"{table}.sample_interval", f"{_PREVIEWS}.interval {_PREVIEWS}.unit", "in epochs",
         to.in_epochs(f"{_PREVIEWS}.unit")),
        (f"{table}.samples_per_class", f"{_PREVIEWS}.num_samples", "× num_classes", yaml_values.samples_per_class),
    )),
    ("generation.num_samples", "generation.sampling.num_samples"),
    ("generation.guidance_scale", f"generation.sampling.guidance_scale {_PREVIEWS}.guidance_scale",
     "both, unless the second is set itself", yaml_values.guidance_of_generation),
    ("generation.use_ema", "generation.sampling.use_ema"),
    ("generation.save_grid", "generation.output.save_grid"),
    ("generation.grid_nrow", "generation.output.grid_nrow"),
)  # fmt: skip

_BOTH_FLAT = _rows(
    (FLAT_TOML, FLAT_YAML),
    ("training.ema_decay", "training.ema.decay"),
    ("training.gradient_clip_norm", "training.optimizer.gradient_clip_norm", "null → 0, no clipping",
     to.null_is(0.0)),
)  # fmt: skip

_FLAT_YAML_ONLY = _rows(
    (FLAT_YAML,),
    ("model.num_classes", "model.conditioning.type model.conditioning.num_classes", "null → type none, else class",
     yaml_values.classes_or_none),
    only=(*YAML, CURRENT),
)  # fmt: skip

_FLAT_AND_GROUPED_YAML = _both(
    ("model.image_size", "model.architecture.image_size", "data.image_size"),
    ("model.in_channels", "model.architecture.in_channels", "", _CARD, to.expected("channels")),
    ("model.class_dropout_prob", "model.conditioning.class_dropout_prob", "model.conditioning.cfg_dropout"),
    *((f"training.scheduler_kwargs.{key}", f"training.scheduler.{key}", "training.scheduler.min_lr_ratio",
       "divided by learning_rate", yaml_values.lowest_rate) for key in ("eta_min", "min_lr")),
    ("training.scheduler_kwargs.factor", "training.scheduler.factor", "training.scheduler.gamma"),
    ("training.save_frequency", "training.checkpointing.save_frequency",
     "training.checkpointing.interval training.checkpointing.unit", "in epochs",
     to.in_epochs("training.checkpointing.unit")),
    ("validation.frequency", f"{_VALIDATION}.frequency", f"{_VALIDATION}.interval {_VALIDATION}.unit", "in epochs",
     to.in_epochs(f"{_VALIDATION}.unit")),
    ("training.use_amp", "training.performance.use_amp", "training.mixed_precision", "true → fp16, false → no",
     yaml_values.use_amp),
)  # fmt: skip

_YAML_ONLY = _rows(
    YAML,
    ("generation.checkpoint", "generation.checkpoint",
     "a path → its name, if latest, best or checkpoint-<step>; pass others to `signal-diffusion sample`",
     yaml_values.checkpoint),
    only=YAML,
)  # fmt: skip

_GROUPED_YAML_ONLY = _rows(
    (GROUPED_YAML,),
    ("compute.seed", "compute.seed", "null → 0", to.null_is(0)),
    ("model.conditioning.type", "model.conditioning.type", "null → none", to.null_is("none")),
    ("training.optimizer.gradient_clip_norm", "training.optimizer.gradient_clip_norm", "null → 0, no clipping",
     to.null_is(0.0)),
    ("training.optimizer.type", "training.optimizer.type", "adam, adamw", to.named({}, other=True)),
    ("training.scheduler.type", "training.scheduler.type", "null → constant", yaml_values.scheduler),
    ("training.scheduler.T_max", "training.scheduler.T_max", "auto and epochs: the whole run", yaml_values.t_max),
    ("training.visualization.interval", f"{_PREVIEWS}.interval {_PREVIEWS}.unit", "in epochs",
     to.in_epochs(f"{_PREVIEWS}.unit")),
    only=YAML,
)  # fmt: skip

_ROWS = (
    *_FLAT_TOML_ONLY,
    *_FLAT_YAML_ONLY,
    *_YAML_ONLY,
    *_GROUPED_YAML_ONLY,
    *_FLAT_TOML_DATA,
    *_FLAT_TOML_MODEL,
    *_FLAT_TOML_TRAINING,
    *_BOTH_FLAT,
    *_BOTH_YAML,
    *_FLAT_YAML,
    *_FLAT_AND_GROUPED_YAML,
)
_KEYS_THAT_ARE_TABLES_NOW = ("model.conditioning", "training.optimizer", "training.scheduler", "training.resume")

ROWS: tuple[Row, ...] = tuple(sorted(_ROWS, key=lambda row: row.old not in _KEYS_THAT_ARE_TABLES_NOW))
"""In the order of application: of two rows for the same key, the first applies. Rows whose old key is the name of a
current table come first, since that value must be moved away before other rows write into the table."""

FLAT_TOML_TABLES = (
    *("settings", "dataset.extras", "dataset", "objective", "optimizer", "scheduler.kwargs", "scheduler"),
    *("inference", "model.extras"),
)
LEGACY_TABLES = (*FLAT_TOML_TABLES, "validation", "training.optimizer_kwargs", "training.scheduler_kwargs")
"""Tables that only older layouts have; keys that remain in them after all rows were applied are unknown."""

_IMAGE_DEFAULTS: tuple[Mapping[str, Any], ...] = (
    {"model.name": "unet"},
    {"data.representation": "image"},
    {"model.diffusion.method": "ddpm"},
    {"data.loading.drop_last": False},
    {"data.augmentation.horizontal_flip": True},
    {"data.augmentation.color_jitter.strength": 0.1},
    {"training.epochs": yaml_values.EPOCHS},
    {"training.mixed_precision": "no"},
    {"training.optimizer.type": "adam"},
    {"training.optimizer.gradient_clip_norm": 0.0},
    {"training.scheduler.type": "constant"},
    {"training.scheduler.warmup_steps": 0},
    {"training.scheduler.min_lr_ratio": 0.0},
    {"training.checkpointing.interval": 10, "training.checkpointing.unit": "epochs"},
    {"training.validation.interval": 1, "training.validation.unit": "epochs"},
    {"training.validation.metric": "loss"},
    {"training.visualization.interval": 10, "training.visualization.unit": "epochs"},
    {"generation.sampling.num_samples": 100},
    {"generation.output.save_individual": True},
    {"generation.output.save_grid": True},
)

IMPLIED: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    FLAT_TOML: ({"model.diffusion.method": "rectified_flow"},),
    FLAT_YAML: _IMAGE_DEFAULTS,
    GROUPED_YAML: (*_IMAGE_DEFAULTS, {"training.visualization.num_samples": 16}),
}
"""Defaults of each older layout that differ from the current ones. A group of keys is set together, unless the file
gives one of them another value. `translation` adds defaults that depend on other keys."""
