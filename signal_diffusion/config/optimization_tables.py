"""The tables of optimization: [training.optimizer], [training.scheduler] and [training.ema]."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import TABLE, BelowOne, Fraction, NotNegative, Positive, Steps, StepsOrNone

__all__ = ["Ema", "Optimizer", "Scheduler"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Optimizer:
    """[training.optimizer]"""

    type: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """Optimizer; PyTorch's implementation of it. "muon" is Muon for the matrices that blocks apply to tokens and AdamW
    for all other weights, with the same learning rate and weight decay; not for LoRA and autoencoders. Seldom
    changed."""
    learning_rate: Positive = 1e-4
    """Peak learning rate, after warm-up. The first key to tune: lower it by factors of 3 if the loss jumps, raise it if
    the loss falls slowly."""
    weight_decay: NotNegative = 0.01
    """Weight decay of matrices; biases, norms and embeddings have none. Raise it if the validation loss rises while the
    training loss falls."""
    betas: tuple[BelowOne, BelowOne] = Field(default=(0.9, 0.999), strict=False)
    """Adam's decay rates; for sgd, the first is the momentum; Muon's momentum is 0.95. Lower the second, to 0.95, if
    the loss has spikes."""
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
    post_hoc: bool = False
    """Post-hoc EMA: also write an EMA snapshot with each checkpoint, from which `signal-diffusion ema` makes averages
    of any length after training. A snapshot is as large as the trained weights and is never removed to make room; two
    more averages take twice that size in memory and in each checkpoint."""
