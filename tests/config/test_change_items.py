"""The changes from the flat to the grouped YAML, and its validation rules; docs/migration.md names each test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from signal_diffusion.experiment.loading import load_experiment
from tests.config.older_files import flat, lines_of, of_yaml

DOCUMENT = Path(__file__).parents[2] / "docs" / "migration.md"
ITEMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "image size": (
        "model: {image_size: 16}\ndata: {image_size: 16}",
        "model: {architecture: {image_size: 16}}",
        {"data.image_size": 16},
    ),
    "optimizer": (
        "training: {optimizer: adamw, learning_rate: 0.001, optimizer_kwargs: {weight_decay: 0.1, betas: [0.8, 0.9]}}",
        "training: {optimizer: {type: adamw, learning_rate: 0.001, weight_decay: 0.1, betas: [0.8, 0.9]}}",
        {
            "training.optimizer.type": "adamw",
            "training.optimizer.learning_rate": 0.001,
            "training.optimizer.weight_decay": 0.1,
            "training.optimizer.betas": [0.8, 0.9],
        },
    ),
    "scheduler": (
        "training: {epochs: 9, scheduler: cosine, scheduler_kwargs: {T_max: 9, eta_min: 1.0e-05}}",
        "training: {epochs: 9, scheduler: {type: cosine, T_max: auto, eta_min: 1.0e-05}}",
        {"training.scheduler.type": "cosine", "training.scheduler.min_lr_ratio": 0.1},
    ),
    "ema": (
        "training: {use_ema: true, ema_decay: 0.99}",
        "training: {ema: {enabled: true, decay: 0.99}}",
        {"training.ema.enabled": True, "training.ema.decay": 0.99},
    ),
    "output": (
        "output: {log_dir: out/logs}\ntraining: {checkpoint_dir: out/saved}\ngeneration: {output_dir: out/new}",
        "output: {base_dir: out, subdirs: {logs: logs, checkpoints: saved, generated: new}}",
        {
            "output.base_dir": "out",
            "output.subdirs.logs": "logs",
            "output.subdirs.checkpoints": "saved",
            "output.subdirs.generated": "new",
        },
    ),
    "conditioning": (
        "model: {num_classes: 5, class_dropout_prob: 0.2}\ndata: {return_labels: true}",
        "model: {conditioning: {type: class, num_classes: 5, class_dropout_prob: 0.2}}",
        {
            "model.conditioning.type": "class",
            "model.conditioning.num_classes": 5,
            "model.conditioning.cfg_dropout": 0.2,
        },
    ),
    "checkpointing": (
        "data: {val_path: /v}\ntraining: {save_frequency: 3, save_best_only: true}",
        "data: {paths: {val: /v}}\ntraining: {checkpointing: {save_frequency: 3, save_best_only: true}}",
        {
            "training.checkpointing.interval": 3,
            "training.checkpointing.unit": "epochs",
            "training.checkpointing.save_best_only": True,
        },
    ),
    "validation": (
        "data: {val_path: /v}\nvalidation: {frequency: 2, metric: loss}",
        "data: {paths: {val: /v}}\ntraining: {validation: {enabled: true, frequency: 2, metric: loss}}",
        {"training.validation.interval": 2, "training.validation.unit": "epochs", "training.validation.metric": "loss"},
    ),
    "visualization": (
        "model: {num_classes: 5}\ngeneration: {sample_images: true, sample_interval: 4, samples_per_class: 2}",
        "model: {conditioning: {type: class, num_classes: 5}}\n"
        "training: {visualization: {enabled: true, interval: 4, num_samples: 10}}",
        {
            "training.visualization.enabled": True,
            "training.visualization.interval": 4,
            "training.visualization.unit": "epochs",
            "training.visualization.num_samples": 10,
        },
    ),
    "resume": (
        "",
        "training: {resume: {enabled: true, checkpoint: runs/a/checkpoint-5, reset_optimizer: true}}",
        {
            "training.resume.enabled": True,
            "training.resume.checkpoint": "runs/a/checkpoint-5",
            "training.resume.reset_optimizer": True,
        },
    ),
    "compute": (
        "device: cpu\nseed: 3\ntraining: {use_amp: true}",
        "compute: {device: cpu, seed: 3}\ntraining: {performance: {use_amp: true}}",
        {"compute.device": "cpu", "compute.seed": 3, "training.mixed_precision": "fp16"},
    ),
    "validation rules": (
        "",
        "validation_rules: {require_labels_if_conditional: true}\ndebug: {log_gradients: true}",
        {"validation_rules.require_labels_if_conditional": True, "debug.log_gradients": True},
    ),
    "data": (
        "data: {train_path: /t, batch_size: 4, drop_last: true, horizontal_flip: true, color_jitter: true}",
        "data: {paths: {train: /t}, loading: {batch_size: 4, drop_last: true}, "
        "augmentation: {horizontal_flip: true, color_jitter: {enabled: true}}}",
        {
            "data.paths.train": "/t",
            "data.loading.batch_size": 4,
            "data.loading.drop_last": True,
            "data.augmentation.horizontal_flip": True,
            "data.augmentation.color_jitter.enabled": True,
        },
    ),
    "model": (
        "model: {model_channels: 8, channel_multipliers: [1, 2], num_timesteps: 100, beta_schedule: cosine}",
        "model: {architecture: {model_channels: 8, channel_multipliers: [1, 2]}, "
        "diffusion: {num_timesteps: 100, beta_schedule: cosine}}",
        {
            "model.architecture.model_channels": 8,
            "model.architecture.channel_multipliers": [1, 2],
            "model.diffusion.num_timesteps": 100,
            "model.diffusion.beta_schedule": "cosine",
        },
    ),
    "generation": (
        "generation: {checkpoint: saved/best.pth, num_samples: 9, use_ema: false, save_grid: true, grid_nrow: 3}",
        "generation: {checkpoint: best, sampling: {num_samples: 9, use_ema: false}, "
        "output: {save_grid: true, grid_nrow: 3}}",
        {
            "generation.checkpoint": "best",
            "generation.sampling.num_samples": 9,
            "generation.sampling.use_ema": False,
            "generation.output.save_grid": True,
            "generation.output.grid_nrow": 3,
        },
    ),
}


@pytest.mark.parametrize("item", ITEMS)
def test_change(item: str) -> None:
    flat_text, grouped_text, expected = ITEMS[item]
    for text in filter(None, (flat_text, grouped_text)):
        translation = of_yaml(text)
        assert not translation.problems
        assert flat(translation.tables).items() >= expected.items()
    assert f"| `{item}` |" in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes", "model: {conditioning: {type: class}}"),
        ("T_max", "training: {epochs: 4, scheduler: {type: cosine, T_max: auto}}"),
    ],
)
def test_rule_that_needs_no_value(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(f"{text}\ndata: {{paths: {{train: /t}}}}")
    experiment = load_experiment(tmp_path / "old.yaml")
    assert (experiment.model.conditioning.num_classes, experiment.training.scheduler.T_max) == (None, None)
    assert f"| `{name}` |" in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("device", "compute: {device: gpu}", "[compute] device: expected 'auto', 'cpu', 'cuda' or 'mps', found 'gpu'"),
        ("type", "model: {conditioning: {type: text}}", "[model.conditioning] type: expected 'none', 'class', 'capt"),
        ("seed", "compute: {seed: -1}", "[compute] seed: expected a number greater than or equal to 0, found -1"),
    ],
)
def test_rule(name: str, text: str, message: str, tmp_path: Path) -> None:
    [line] = lines_of(tmp_path / "old.yaml", f"{text}\ndata: {{paths: {{train: /t}}}}")
    assert line.startswith(message)
    assert f"| `{name}` |" in DOCUMENT.read_text(encoding="utf-8")
