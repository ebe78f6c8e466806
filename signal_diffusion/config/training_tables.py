"""The tables of the training loop: [training] and its other subtables."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from signal_diffusion.config.optimization_tables import Ema, Optimizer, Scheduler
from signal_diffusion.config.types import TABLE, Batches, Fraction, Name, NotNegative, Steps, StepsOrNone
from signal_diffusion.config.validation_tables import Validation, Visualization

__all__ = ["Checkpointing", "Masking", "Performance", "Resume", "Training"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Checkpointing:
    """[training.checkpointing]"""

    interval: StepsOrNone = 1000
    """Steps or epochs between two checkpoints; 0 = only at the end, or when the run is stopped. Lower it where runs are
    killed: the steps since the last checkpoint are lost."""
    unit: Literal["steps", "epochs"] = "steps"
    """Unit of `interval`: optimizer steps, or passes through the training split."""
    total_limit: StepsOrNone = 3
    """Number of newest checkpoints to keep, in addition to the best; 0 = all. Keep more to choose among them later, or
    as guides."""
    save_best_only: bool = False
    """Write only checkpoints that are the best so far, and the last."""
    save_optimizer: bool = True
    """Save the optimizer's state, twice the size of the weights; a checkpoint without it can only be resumed with
    `training.resume.reset_optimizer`. Set false only if the disk is small."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Masking:
    """[training.masking]: train a model of time series to restore examples of which some values are given.

    Each mask is of one kind, or of two combined. Where electrodes are missing, signals of an average reference are
    referenced to the average of the others, as they are in a recording that lacks them.
    """

    probability: Fraction = 0.0
    """Share of the examples with a mask; the others are generated freely. 0 = train without masks; 0.8 is usual for a
    model that restores recordings."""
    electrodes: NotNegative = 1.0
    """Relative frequency of masks that give a random number of random electrodes."""
    gaps: NotNegative = 1.0
    """Relative frequency of masks that give everything but a stretch of 1/64 to 1/2 of the window."""
    continuations: NotNegative = 1.0
    """Relative frequency of masks that give only the beginning, or only the end, 1/16 to 15/16 of the window."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Performance:
    """[training.performance]: speed; results are the same up to rounding."""

    use_tf32: bool = True
    """Use TensorFloat-32 for fp32 matrix products on CUDA. Set false to rule out rounding."""
    compile_model: Literal[True, False, "auto"] = False
    """Compile the network with torch.compile, block by block, which takes minutes at the start. With "auto", a run of
    at least 1,000 steps and half an hour measures before its first step whether that pays, and writes true or false to
    the run's config.toml; every other run trains uncompiled."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = "default"
    """Mode of torch.compile. Seldom changed."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Resume:
    """[training.resume]: resume from a checkpoint; `--resume-from-checkpoint` overrides it."""

    enabled: bool = False
    """Resume at the start of training."""
    checkpoint: Name = "latest"
    """"latest" (of this run), or the folder of a checkpoint."""
    reset_optimizer: bool = False
    """Load the weights and their EMA, but start with a new optimizer state (momentum, second moments), possibly of
    another `training.optimizer.type`; the step, the order of examples and the best metric so far are kept. Written as
    false to the run's config.toml, so that a later resume is not affected."""
    reset_scheduler: bool = False
    """Restart the learning-rate schedule, including warm-up, over the steps that remain after the checkpoint. Written
    as false to the run's config.toml."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Training:
    """[training]"""

    epochs: Steps = 100
    """Passes through the training split, unless `max_steps` is given."""
    max_steps: Steps | None = None
    """Optimizer steps of the whole run; overrides `epochs`, whether more or fewer. Use it for trials, and to compare
    runs on datasets of different sizes."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    """Autocast type of the forward pass; weights, optimizer state and EMA stay in fp32. A CPU without bf16 instructions
    computes in fp32. Choose "fp16" for GPUs without bf16, "no" to rule out rounding."""
    gradient_accumulation_steps: Batches = 1
    """Batches per process whose gradients are accumulated for one optimizer step. Raise it for larger steps than memory
    holds."""
    gradient_checkpointing: bool = False
    """Recompute each block in the backward pass, to save memory. Set true if memory is short; a step then takes about a
    third longer."""
    log_interval: Steps = 10
    """Optimizer steps between two lines of metrics; the logged loss is the mean over these steps."""
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    """What to do when a gradient is not finite: that step is always skipped, and the run stops; continues, unless more
    than 20 steps in a row were skipped; or goes back to its last good checkpoint (weights and last validation finite),
    to go on from there with other noise, at most three times."""
    perceptual: NotNegative = 0.0
    """Weight of a perceptual loss of the x0 that a prediction implies, added to the squared error: of time series, the
    multi-resolution STFT loss; of images, LPIPS. It fades with the noise, by the share of x0 in the power of the
    network's input. 0 = off; try 0.01 to 0.1."""
    perceptual_weights: str = ""
    """Folder with the weights of LPIPS: alex.safetensors, squeeze.safetensors or vgg.safetensors; docs/training.md says
    how to make it."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    scheduler: Scheduler = field(default_factory=Scheduler)
    ema: Ema = field(default_factory=Ema)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    validation: Validation = field(default_factory=Validation)
    visualization: Visualization = field(default_factory=Visualization)
    masking: Masking = field(default_factory=Masking)
    performance: Performance = field(default_factory=Performance)
    resume: Resume = field(default_factory=Resume)
