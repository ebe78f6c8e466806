"""The same experiment in three older layouts, and functions to translate such files."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.keys import known_keys
from signal_diffusion.config.legacy.engine import File
from signal_diffusion.config.legacy.translation import translated
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment

FLAT_YAML = """
experiment: diffusion
mode: train
device: cpu
seed: 3
model:
  image_size: 16
  in_channels: 3
  model_channels: 8
  channel_multipliers: [1, 2]
  num_classes: 2
  num_timesteps: 100
  beta_schedule: cosine
  beta_start: 0.0001
  beta_end: 0.03
  class_dropout_prob: 0.2
  use_attention: [false, true]
data:
  train_path: {root}/train
  val_path: {root}/validation
  image_size: 16
  return_labels: true
  batch_size: 8
  num_workers: 0
  pin_memory: true
  shuffle_train: true
  drop_last: false
  horizontal_flip: true
  rotation_degrees: 10
  color_jitter: true
  color_jitter_strength: 0.1
output:
  log_dir: outputs/logs
training:
  epochs: 1
  optimizer: adam
  learning_rate: 0.001
  optimizer_kwargs: {{weight_decay: 0.01, betas: [0.9, 0.99]}}
  scheduler: cosine
  scheduler_kwargs: {{T_max: 1, eta_min: 1.0e-5}}
  use_ema: true
  ema_decay: 0.99
  use_amp: false
  gradient_clip_norm: null
  checkpoint_dir: outputs/checkpoints
  save_frequency: 1
  save_best_only: false
validation: {{frequency: 1, metric: loss}}
generation:
  sample_images: true
  sample_interval: 1
  samples_per_class: 2
  guidance_scale: 3.0
  checkpoint: null
  num_samples: 4
  use_ema: true
  output_dir: null
  save_grid: true
  grid_nrow: 2
"""

GROUPED_YAML = """
experiment: diffusion
mode: train
compute: {{device: cpu, seed: 3}}
model:
  architecture:
    image_size: 16
    in_channels: 3
    model_channels: 8
    channel_multipliers: [1, 2]
    use_attention: [false, true]
  diffusion: {{num_timesteps: 100, beta_schedule: cosine, beta_start: 0.0001, beta_end: 0.03}}
  conditioning: {{type: class, num_classes: 2, class_dropout_prob: 0.2}}
data:
  paths: {{train: "{root}/train", val: "{root}/validation"}}
  loading: {{batch_size: 8, num_workers: 0, pin_memory: true, shuffle_train: true, drop_last: false}}
  augmentation: {{horizontal_flip: true, rotation_degrees: 10, color_jitter: {{enabled: true, strength: 0.1}}}}
output:
  base_dir: outputs
  subdirs: {{logs: logs, checkpoints: checkpoints, samples: samples, generated: generated}}
training:
  epochs: 1
  optimizer: {{type: adam, learning_rate: 0.001, weight_decay: 0.01, betas: [0.9, 0.99], gradient_clip_norm: null}}
  scheduler: {{type: cosine, T_max: auto, eta_min: 1.0e-5}}
  ema: {{enabled: true, decay: 0.99}}
  checkpointing: {{save_frequency: 1, save_best_only: false, save_optimizer: true}}
  validation: {{enabled: true, frequency: 1, metric: loss}}
  visualization: {{enabled: true, interval: 1, num_samples: 4, guidance_scale: 3.0}}
  performance: {{use_amp: false, use_tf32: true, cudnn_benchmark: true, compile_model: false}}
  resume: {{enabled: false, checkpoint: null, reset_optimizer: false, reset_scheduler: false}}
generation:
  checkpoint: null
  sampling: {{num_samples: 4, guidance_scale: 3.0, use_ema: true}}
  output: {{save_individual: true, save_grid: true, grid_nrow: 2}}
validation_rules: {{require_labels_if_conditional: true, warn_if_batch_size_small: 8}}
debug: {{profile: false, log_gradients: false, detect_anomaly: false}}
"""

FLAT_TOML = """
# A small transformer.
# Of one evening.

[settings]
config = "config/default.toml"
trainer = "diffusion"

[data]
output_type = "db-only"

# Where it is.
[dataset]
name = "{root}"            # made by `prepare` #1
batch_size = 8             # Reduce for smaller GPU, increase for larger GPU
resolution = 64
max_train_samples = 48
class_column = "label"
num_classes = 2

[model]
name = "dit"
conditioning = "classes"

[model.extras]
# One is enough.
num_layers = 1
num_attention_heads = 2
attention_head_dim = 8
patch_size = 16
in_channels = 1
cfg_dropout = 0.1          # 0.0 = disabled, 0.1-0.2 = typical

[objective]
prediction_type = "vector_field"
flow_match_timesteps = 1000

[optimizer]
name = "adamw"
learning_rate = 1e-3
betas = [
    0.9,                   # momentum
    0.95,
]                          # both

[scheduler]
name = "constant"

[training]
seed = 5
max_train_steps = 2
mixed_precision = "no"
log_every_steps = 1
checkpoint_interval = 2
eval_num_steps = 2
eval_num_examples = 0
ema_decay = 0.9
ema_use_ema_warmup = true
eval_mmd_samples = 16      # some

[logging]
tensorboard = false
wandb_entity = "lab"
# The end.
"""


def of_toml(text: str) -> File:
    return translated(tomllib.loads(text), known_keys())


def of_yaml(text: str) -> File:
    return translated(yaml.safe_load(text), known_keys(), yaml=True)


def said(translation: File) -> dict[str, Any]:
    """What the file itself says, in today's keys."""
    implied = {key for default in translation.implied for key in default.values}
    return {key: value for key, value in flat(translation.tables).items() if key not in implied}


def flat(tables: dict[str, Any]) -> dict[str, Any]:
    return dict(dotted(tables))


def lines_of(path: Path, text: str, *overrides: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_experiment(path, overrides)
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]
