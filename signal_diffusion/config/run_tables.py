"""The tables of the run around the training loop: [compute], [output], [logging], [validation_rules] and [debug]."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import MAX_BATCH_SIZE, TABLE, Name, Seed

__all__ = ["Compute", "Debug", "Logging", "Output", "Subdirs", "ValidationRules"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Compute:
    """[compute]: device and random seed."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device to train on; "auto" = the available accelerator, else the CPU. Set it to keep a GPU free."""
    seed: Seed = 0
    """Seed for the weights, the order of examples, the noise, the times and the dropout of conditions. Change it to
    repeat a run independently."""


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
class Debug:
    """[debug]: diagnostics; slower, with the same results."""

    profile: bool = False
    """Write a profiler trace of steps 5 to 9, counted from the start or from the resume, to the log folder: for
    TensorBoard's profile plugin, chrome://tracing or ui.perfetto.dev."""
    log_gradients: bool = False
    """At each logged step, log the gradient norm of each block before clipping, and histograms in TensorBoard."""
    detect_anomaly: bool = False
    """Report the operation that produced a NaN gradient; several times slower."""
