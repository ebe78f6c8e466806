"""One frozen dataclass per table of the experiment file; the string under a field is its documentation.

Types and ranges are checked by pydantic when a file is read. `config/loading.py` reports what it finds.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.data_tables import Augmentation, Balancing, ColorJitter, Columns, Data, Loading, Paths
from signal_diffusion.config.generation_tables import CHECKPOINT, Generation, GenerationOutput, Sampling
from signal_diffusion.config.model_tables import Autoencoder, Conditioning, Diffusion, Lora, Model
from signal_diffusion.config.types import (
    TABLE,
    BelowOne,
    Count,
    CountOrNone,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Seed,
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
    """[compute]: where it runs and from which seed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on; "auto" takes the accelerator that is there, else the CPU."""
    seed: Seed = 0
    """Seed of the weights, the order of examples, the noise, the times and the dropped conditions."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Optimizer:
    """[training.optimizer]"""

    type: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimizer; each in torch's fused form."""
    learning_rate: Positive = 1e-4
    """Highest learning rate, after warm-up."""
    weight_decay: NotNegative = 0.01
    """Weight decay of matrices; biases, norms and embeddings have none."""
    betas: tuple[BelowOne, BelowOne] = Field(default=(0.9, 0.999), strict=False)
    """Adam's decay rates; for sgd, the first is the momentum."""
    eps: Positive = 1e-8
    """Adam's epsilon."""
    gradient_clip_norm: NotNegative = 1.0
    """Largest norm of the whole gradient; 0 = not clipped."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Scheduler:
    """[training.scheduler]: the learning rate over optimizer steps."""

    type: Literal["constant", "linear", "cosine", "step", "plateau"] = "cosine"
    """Shape after warm-up."""
    warmup_steps: CountOrNone = 2000
    """Steps of linear warm-up from 0.1 % of the rate; at most a tenth of the run."""
    min_lr_ratio: Fraction = 0.01
    """Lowest learning rate, as a share of the highest."""
    num_cycles: Count = 1
    """cosine: number of cosines, each of which starts from the full rate."""
    T_max: Count | None = None
    """cosine: epochs from the highest rate to the lowest, and as many back, as PyTorch's; absent = one way, to the end
    of the run."""
    step_size: Count = 30
    """step: epochs between two decays."""
    gamma: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """step and plateau: factor of a decay."""
    patience: CountOrNone = 10
    """plateau: validations without improvement before a decay."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Ema:
    """[training.ema]: the exponential moving average of the weights; validation, previews and sampling use it."""

    enabled: bool = True
    """Keep an average."""
    decay: BelowOne = 0.9999
    """Decay per update, once warm."""
    update_every: Count = 10
    """Optimizer steps between two updates."""
    update_after_step: CountOrNone = 0
    """The average is a copy of the weights up to this step."""
    warmup: bool = True
    """Start with a short memory: the decay is at most 1 - (1 + updates / inv_gamma) ** -power."""
    inv_gamma: Positive = 1.0
    """Time constant of the warm-up, in updates."""
    power: Positive = 0.75
    """Exponent of the warm-up."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Checkpointing:
    """[training.checkpointing]"""

    interval: CountOrNone = 1000
    """Time between two checkpoints; 0 = only at the end, or when stopped."""
    unit: Literal["steps", "epochs"] = "steps"
    """What `interval` counts: optimizer steps, or passes through the training split."""
    total_limit: Count | None = 3
    """Newest checkpoints that are kept, beside the best; absent = all."""
    save_best_only: bool = False
    """Write only checkpoints that are the best so far, and the last."""
    save_optimizer: bool = True
    """Keep the optimizer's state, as large as the weights twice over; without it, a checkpoint is resumed with
    `training.resume.reset_optimizer` alone."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Validation:
    """[training.validation]: the loss on people not trained on, for always the same examples, times and noise."""

    enabled: bool = True
    """Validate at all."""
    interval: Count = 500
    """Time between two validations."""
    unit: Literal["steps", "epochs"] = "steps"
    """What `interval` counts: optimizer steps, or passes through the training split."""
    at_start: bool = False
    """Validate before the first step too; that one is never the best."""
    batch_size: Count | None = None
    """Examples per process and forward pass; absent = `data.loading.batch_size`. It does not change the result."""
    num_examples: Count = 512
    """Examples that are used, spread evenly over the split; fewer where there are fewer."""
    metric: Literal["loss", "ema_loss"] = "ema_loss"
    """What the best checkpoint has the lowest of; "ema_loss" is "loss" where there is no average."""
    num_generated: CountOrNone = 0
    """Samples that each validation draws, by `[generation.sampling]` and the guidance of the pictures, and compares
    with its examples by their mean spectra: `validation/spectral_distance` in dB (docs/training.md); 0 = none."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Visualization:
    """[training.visualization]: pictures of samples while training."""

    enabled: bool = True
    """Draw them at all."""
    interval: Count = 1000
    """Time between two pictures."""
    unit: Literal["steps", "epochs"] = "steps"
    """What `interval` counts: optimizer steps, or passes through the training split."""
    num_samples: Count = 16
    """Samples in a picture, shared evenly among the classes."""
    guidance_scale: NotNegative = 1.0
    """Guidance of the samples; 1 = conditional only."""
    seed: Seed = 0
    """Seed of their noise, the same in each picture."""
    animation: bool = False
    """Beside each picture, a GIF of how its first samples come out of noise: above what the sampler has reached, below
    what the network takes the data for; a latent model's are decoded, of 12 of its steps."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Performance:
    """[training.performance]: speed, with the same results up to rounding."""

    use_tf32: bool = True
    """TensorFloat-32 matrix products on CUDA where a product is in fp32."""
    cudnn_benchmark: bool = True
    """Let cuDNN choose the fastest kernel for the sizes it meets."""
    compile_model: bool = False
    """torch.compile, block by block."""
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = "default"
    """Mode of torch.compile."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Resume:
    """[training.resume]: go on from a checkpoint; `--resume-from-checkpoint` wins."""

    enabled: bool = False
    """Resume at start."""
    checkpoint: Name = "latest"
    """"latest" (of this run), or a checkpoint's folder."""
    reset_optimizer: bool = False
    """Take the weights and their average, and begin the optimizer's state (momentum, second moments) anew, also that of
    another `training.optimizer.type`; the step, the order of examples and the best value so far go on. The run's own
    config.toml has it false again, and is resumed as usual."""
    reset_scheduler: bool = False
    """Begin the learning-rate schedule anew, its warm-up too: over the steps that are left, counted from the one that
    is resumed from. False again in the run's own config.toml."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Training:
    """[training]"""

    epochs: Count = 100
    """Passes through the training split, unless `max_steps` is given."""
    max_steps: Count | None = None
    """Optimizer steps of the whole run; wins over `epochs`, be it more or fewer."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "bf16"
    """Autocast type of the forward pass; weights, optimizer state and EMA stay in fp32. A CPU without instructions for
    bf16 computes in fp32."""
    gradient_accumulation_steps: Count = 1
    """Batches per process whose gradients make one optimizer step."""
    gradient_checkpointing: bool = False
    """Compute each block again in the backward pass, to save memory."""
    log_interval: Count = 10
    """Optimizer steps between two lines of metrics; the loss is their mean."""
    on_nonfinite: Literal["stop", "skip"] = "stop"
    """What a gradient that is not finite does: its step changes nothing, and the run stops, or goes on."""
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
    """TensorBoard's event files."""
    checkpoints: Name = "."
    """Parent of the checkpoint-<step> folders."""
    samples: Name = "samples"
    """Pictures of samples while training."""
    generated: Name = "generated"
    """What `signal-diffusion sample` writes."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Output:
    """[output]"""

    base_dir: str = ""
    """Run directory; `--output-dir` wins; "" = runs/<name of the experiment file>."""
    subdirs: Subdirs = field(default_factory=Subdirs)


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Logging:
    """[logging]: metrics.jsonl is always written."""

    tensorboard: bool = True
    """Write TensorBoard event files too."""
    wandb_project: str = ""
    """Project of Weights & Biases that gets metrics and pictures too, which needs `pip install wandb`; "" = none."""
    wandb_entity: str = ""
    """Its account or team; "" = the one that `wandb login` knows."""
    run_name: str = ""
    """Name of the run there; "" = made up by Weights & Biases."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Debug:
    """[debug]: slower, with the same results."""

    profile: bool = False
    """Write a trace of steps 5 to 9 of the run, or as many after a resume, into the folder of logs: for TensorBoard's
    profile plugin, chrome://tracing or ui.perfetto.dev."""
    log_gradients: bool = False
    """Log the norm of the gradient of each block, in TensorBoard a histogram too, at every logged step: of what the
    optimizer is given, before it is clipped."""
    detect_anomaly: bool = False
    """Trace the operation that made a gradient NaN; several times slower."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class ValidationRules:
    """[validation_rules]: which warnings are given before training; what cannot work is an error in any case."""

    require_labels_if_conditional: bool = True
    """Warn where training examples have no label, though the model is conditioned on it."""
    warn_if_batch_size_small: bool = True
    """Warn where fewer than 8 examples make an optimizer step of a diffusion model."""
    warn_if_suspicious: bool = True
    """Warn of what is possible and seldom meant: a gradient clipped far too low or high, intervals, a warm-up, an
    average or a profile that are longer than the run."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Experiment:
    """A whole experiment file."""

    compute: Compute = field(default_factory=Compute)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    generation: Generation = field(default_factory=Generation)
    output: Output = field(default_factory=Output)
    logging: Logging = field(default_factory=Logging)
    validation_rules: ValidationRules = field(default_factory=ValidationRules)
    debug: Debug = field(default_factory=Debug)
