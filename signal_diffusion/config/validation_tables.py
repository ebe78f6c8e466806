"""The tables of what is measured and drawn during training: [training.validation] and [training.visualization]."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import (
    TABLE,
    BatchSize,
    ExamplesOrNone,
    NotNegative,
    Samples,
    SamplesOrNone,
    Seed,
    Steps,
)

__all__ = ["GENERATED", "LARGER_IS_BETTER", "Validation", "Visualization"]

GENERATED = "generated/"
"""Prefix of validation metrics of generated samples."""
LARGER_IS_BETTER = ("generated/coverage",)
"""Validation metrics that are highest for the best checkpoint."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Validation:
    """[training.validation]: loss on held-out subjects, always with the same examples, times and noise."""

    enabled: bool = True
    """Validate during training."""
    interval: Steps = 500
    """Steps or epochs between two validations. Raise it if validation takes a large part of the run."""
    unit: Literal["steps", "epochs"] = "steps"
    """Unit of `interval`: optimizer steps, or passes through the training split."""
    at_start: bool = False
    """Also validate before the first step; that result never counts as the best."""
    batch_size: BatchSize | None = None
    """Examples per process and forward pass; absent = `data.loading.batch_size`. It does not change the result. Lower
    it if validation runs out of memory."""
    num_examples: ExamplesOrNone = 512
    """Number of examples, spread evenly over the split; 0 = all, and all if the split has fewer. Raise it if the
    validation loss is too noisy to compare runs."""
    metric: Literal[
        "loss",
        "ema_loss",
        "generated/lsd",
        "generated/bp-w1",
        "generated/envcv-w1",
        "generated/eeg-fd",
        "generated/coverage",
    ] = "ema_loss"
    """Metric that is lowest for the best checkpoint ("generated/coverage": highest); without EMA, "ema_loss" means
    "loss"; the others need `num_generated`."""
    num_generated: SamplesOrNone = 0
    """Samples to generate at each validation, with the settings of `[generation.sampling]` and the guidance of
    `[training.visualization]`, to be compared with the validation examples: `validation/spectral_distance` in dB, and
    five metrics of EEG in microvolts, `validation/generated/…`, with their floors (docs/training.md); 0 = none. EEG-FD
    needs at least 33 samples."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Visualization:
    """[training.visualization]: previews, figures of samples during training."""

    enabled: bool = True
    """Write previews."""
    interval: Steps = 1000
    """Steps or epochs between two previews. Raise it if previews take a large part of the run."""
    unit: Literal["steps", "epochs"] = "steps"
    """Unit of `interval`: optimizer steps, or passes through the training split."""
    at_start: bool = False
    """Also draw a preview before the first step, of new or pretrained weights."""
    num_samples: Samples = 16
    """Samples per preview, divided evenly among the classes."""
    guidance_scale: NotNegative = 1.0
    """Guidance scale of the samples; 1 = conditional only."""
    seed: Seed = 0
    """Seed of the noise, which is the same in each preview. Seldom changed."""
    animation: bool = False
    """Also write a GIF that shows how the first samples of each preview emerge from noise: the state of the sampler at
    the top, the network's estimate of the data below; for a latent model decoded, at 12 of the steps."""
