"""One frozen dataclass per table of the experiment file; the string under a field is its documentation.

Pydantic checks types and ranges when a file is read; `config/loading.py` reports the errors.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.data_tables import Augmentation, Balancing, ColorJitter, Columns, Data, Loading, Paths
from signal_diffusion.config.generation_tables import CHECKPOINT, Generation, GenerationOutput, Sampling
from signal_diffusion.config.model_tables import Autoencoder, Conditioning, Diffusion, Lora, Model
from signal_diffusion.config.types import (
    MAX_BATCH_SIZE,
    TABLE,
    Batches,
    BatchSize,
    BelowOne,
    ExamplesOrNone,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Samples,
    SamplesOrNone,
    Seed,
    Steps,
    StepsOrNone,
)

__all__ = [
    "CHECKPOINT",
    "TABLE",
    "Augmentation",
    "Autoencoder",
    "Balancing",
    "Checkpointing",
    "ColorJitter",
    "Columns",
    "Compute",
    "Conditioning",
    "Data",
    "Debug",
    "Diffusion",
    "Ema",
    "Experiment",
    "Generation",
    "GenerationOutput",
    "Loading",
    "Logging",
    "Lora",
    "Model",
    "Optimizer",
    "Output",
    "Paths",
    "Performance",
    "Resume",
    "Sampling",
    "Scheduler",
    "Subdirs",
    "Training",
    "Validation",
    "ValidationRules",
    "Visualization",
]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Compute:
    """[compute]: device and random seed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on; "auto" = the available accelerator, else the CPU. Set it to keep a GPU free."""
    seed: Seed = 0
    """Seed for the weights, the order of examples, the noise, the times and the dropout of conditions. Change it to
    repeat a run independently."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Optimizer:
    """[training.optimizer]"""

    type: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimizer; PyTorch's fused implementation of it. Seldom changed."""
    learning_rate: Positive = 1e-4
    """Peak learning rate, after warm-up. The first key to tune: lower it by factors of 3 if the loss jumps, raise it if
    the loss falls slowly."""
    weight_decay: NotNegative = 0.01
    """Weight decay of matrices; biases, norms and embeddings have none. Raise it if the validation loss rises while the
    training loss falls."""
    betas: tuple[BelowOne, BelowOne] = Field(default=(0.9, 0.999), strict=False)
    """Adam's decay rates; for sgd, the first is the momentum. Lower the second, to 0.95, if the loss has spikes."""
    eps: Positive = 1e-8
    """Adam's epsilon. Seldom changed."""
    gradient_clip_norm: NotNegative = 1.0
    """Clip the global norm of the gradient to this value; 0 = no clipping. Lower it if the logged gradient norm has
    spikes."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Scheduler:
    """[training.scheduler]: the learning rate over optimizer steps."""

    type: Literal["constant", "linear", "cosine", "step", "plateau"] = "cosine"
    """Shape after warm-up. Choose "constant" if the length of the run is not known yet."""
    warmup_steps: StepsOrNone = 2000
    """Steps of linear warm-up from 0.1 % of the learning rate; at most a tenth of the run. Raise it if the loss jumps
    early."""
    min_lr_ratio: Fraction = 0.01
    """Lowest learning rate, as a fraction of the peak. Seldom changed."""
    num_cycles: Steps = 1
    """cosine: number of cosine cycles; each restarts from the peak."""
    T_max: Steps | None = None
    """cosine: epochs from the peak down to the lowest learning rate, then as many back up, as in PyTorch; absent = down
    once, until the end of the run."""
    step_size: Steps = 30
    """step: epochs between two decays."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """step and plateau: factor of a decay."""
    patience: StepsOrNone = 10
    """plateau: validations without improvement before a decay."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Ema:
    """[training.ema]: the exponential moving average of the weights; validation, previews and sampling use it."""

    enabled: bool = True
    """Keep an average."""
    decay: BelowOne = 0.9999
    """Decay per update, after its warm-up. The average remembers about update_every / (1 - decay) steps; lower it for
    runs that are not much longer."""
    update_every: Steps = 10
    """Optimizer steps between two updates. Change it only together with `decay`."""
    update_after_step: StepsOrNone = 0
    """Until this step, the average is a copy of the weights. Seldom changed."""
    warmup: bool = True
    """Start with a smaller decay: at most 1 - (1 + updates / inv_gamma) ** -power."""
    inv_gamma: Positive = 1.0
    """Time constant of the warm-up, in updates."""
    power: Positive = 0.75
    """Exponent of the warm-up."""


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


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Performance:
    """[training.performance]: speed; results are the same up to rounding."""

    use_tf32: bool = True
    """Use TensorFloat-32 for fp32 matrix products on CUDA. Set false to rule out rounding."""
    compile_model: bool = False
    """Compile the network with torch.compile, block by block. Worth it on a GPU for runs of hours, since it takes
    minutes at the start."""
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
    optimizer: Optimizer = field(default_factory=Optimizer)
    scheduler: Scheduler = field(default_factory=Scheduler)
    ema: Ema = field(default_factory=Ema)
    checkpointing: Checkpointing = field(default_factory=Checkpointing)
    validation: Validation = field(default_factory=Validation)
    visualization: Visualization = field(default_factory=Visualization)
    performance: Performance = field(default_factory=Performance)
    resume: Resume = field(default_factory=Resume)


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Subdirs:
    """[output.subdirs]: folders inside the run directory."""

    logs: Name = "tensorboard"
    """TensorBoard event files."""
    checkpoints: Name = "."
    """Parent of the checkpoint-<step> folders."""
    samples: Name = "samples"
    """Previews."""
    generated: Name = "generated"
    """Samples written by `signal-diffusion sample`."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Output:
    """[output]"""

    base_dir: str = ""
    """Run directory; `--output-dir` overrides it; "" = runs/<name of the experiment file>."""
    subdirs: Subdirs = field(default_factory=Subdirs)


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Logging:
    """[logging]: metrics.jsonl is always written."""

    tensorboard: bool = True
    """Also write TensorBoard event files."""
    wandb_project: str = ""
    """Also log metrics and previews to this Weights & Biases project, which needs `pip install wandb`; "" = off."""
    wandb_entity: str = ""
    """Weights & Biases account or team; "" = the default of `wandb login`."""
    run_name: str = ""
    """Name of the Weights & Biases run; "" = a name that Weights & Biases makes up."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Debug:
    """[debug]: diagnostics; slower, with the same results."""

    profile: bool = False
    """Write a profiler trace of steps 5 to 9, counted from the start or from the resume, to the log folder: for
    TensorBoard's profile plugin, chrome://tracing or ui.perfetto.dev."""
    log_gradients: bool = False
    """At each logged step, log the gradient norm of each block before clipping, and histograms in TensorBoard."""
    detect_anomaly: bool = False
    """Report the operation that produced a NaN gradient; several times slower."""


FEW_EXAMPLES = 8
"""Examples per optimizer step below which gradients are mostly noise: each has a single time and noise."""


def _threshold(value: Any) -> Any:
    """The threshold of version 0.1.0, which was true or false."""
    return FEW_EXAMPLES * value if isinstance(value, bool) else value


@dataclass(frozen=True, kw_only=True, config=TABLE)
class ValidationRules:
    """[validation_rules]: warnings before training; settings that cannot work are always errors."""

    require_labels_if_conditional: bool = True
    """Warn if training examples have no label although the model is conditioned on it."""
    warn_if_batch_size_small: Annotated[int, Field(ge=0, le=MAX_BATCH_SIZE), BeforeValidator(_threshold)] = FEW_EXAMPLES
    """Warn if an optimizer step of a diffusion model has fewer examples than this; 0 = never."""
    warn_if_suspicious: bool = True
    """Warn about settings that are legal but suspicious: gradient clipping far too low or high, intervals, a warm-up,
    an EMA or a profile that is longer than the run, or the sampler ddpm on a rectified flow."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Experiment:
    """The whole experiment file of a diffusion model."""

    compute: Compute = field(default_factory=Compute)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    generation: Generation = field(default_factory=Generation)
    output: Output = field(default_factory=Output)
    logging: Logging = field(default_factory=Logging)
    validation_rules: ValidationRules = field(default_factory=ValidationRules)
    debug: Debug = field(default_factory=Debug)
