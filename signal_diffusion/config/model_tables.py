"""The tables of a diffusion model: [model] and what is below it."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import (
    TABLE,
    BelowOne,
    Count,
    Finite,
    Name,
    Positive,
)

__all__ = ["Autoencoder", "Conditioning", "Diffusion", "Lora", "Model"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Diffusion:
    """[model.diffusion]: what the network predicts, of which process."""

    method: Name = "ddpm"
    """"ddpm" (discrete beta schedules) or "rectified_flow" (straight paths)."""
    prediction: Name | None = None
    """"epsilon", "sample", "v" or "velocity"; absent = epsilon for ddpm, velocity for rectified_flow."""
    num_timesteps: Annotated[int, Field(ge=2)] = 1000
    """ddpm: number of noise levels."""
    beta_schedule: Literal["linear", "cosine", "quadratic", "sigmoid"] = "cosine"
    """ddpm: shape of the noise schedule; the cosine has an offset of 0.008 and takes no betas."""
    beta_start: Annotated[float, Field(gt=0, lt=1)] = 1e-4
    """ddpm: first beta of the linear, quadratic and sigmoid schedules."""
    beta_end: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """ddpm: last beta of the linear, quadratic and sigmoid schedules."""
    zero_terminal_snr: bool = False
    """ddpm: rescale the schedule so that the last level is pure noise (arXiv 2305.08891)."""
    snr_gamma: Positive | None = None
    """Gamma of the min-SNR loss weight (arXiv 2303.09556), usually 5; absent = unweighted."""
    time_sampling: Literal["uniform", "logit_normal"] = "logit_normal"
    """rectified_flow: density of the training times (arXiv 2403.03206)."""
    logit_mean: Finite = 0.0
    """rectified_flow: mean of logit(t)."""
    logit_std: Positive = 1.0
    """rectified_flow: standard deviation of logit(t)."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Conditioning:
    """[model.conditioning]: what a sample can be asked for."""

    type: Literal["none", "class", "caption", "attributes"] = "none"
    """"class" conditions on the label, "caption" on a description in words, "attributes" on the columns named in
    `attributes`."""
    num_classes: Count | None = None
    """Number of classes; absent = the dataset's. A different number is an error."""
    attributes: tuple[Name, ...] | None = Field(default=None, strict=False, min_length=1)
    """Attributes of type "attributes", any of the dataset's card; absent = those of gender, health, age, electrode
    and dataset that differ among its examples."""
    cfg_dropout: BelowOne = 0.1
    """Share of training examples whose whole condition is replaced by the null, for guidance."""
    attribute_dropout: BelowOne = 0.1
    """Share of training examples in which an attribute, each on its own, is replaced by its null, so that a model of
    several can be asked for some of them; without effect on a single attribute, which `cfg_dropout` replaces."""
    text_encoder: str = ""
    """Folder, or Hub id, of a text encoder of transformers, or of a pipeline of diffusers with its encoders; "" =
    those of `model.pretrained`."""
    max_caption_tokens: Annotated[int, Field(ge=1, le=512)] = 77
    """Longest caption in tokens; the rest of a longer one is cut off."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Autoencoder:
    """[model.autoencoder]: the space that the network works in, that of a frozen VAE or that of the data."""

    enabled: bool = False
    """Encode the data, and decode the samples."""
    path: str = ""
    """Folder, or Hub id, of an AutoencoderKL or AutoencoderTiny of diffusers, or of a pipeline with one; "" = that of
    `model.pretrained`."""
    sample_posterior: bool = True
    """Train on a latent drawn anew from the posterior each time, not on its mean; validation takes the mean. Without
    effect on an AutoencoderTiny, which has no posterior."""
    cache_latents: bool = False
    """Encode each split once, into the cache, and train from there; the autoencoder leaves memory meanwhile."""
    tiling: bool = False
    """Encode and decode large examples in overlapping tiles, in bounded memory; seams are blended, not exact."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Lora:
    """[model.lora]: train low-rank changes of a pretrained transformer (https://arxiv.org/abs/2106.09685)."""

    enabled: bool = False
    """Leave the pretrained weights as they are, and train low-rank changes and what embeds the conditions."""
    rank: Count = 16
    """Rank of the changes."""
    alpha: Positive = 16.0
    """The changes are scaled by alpha / rank."""
    dropout: BelowOne = 0.0
    """Share of a change's inputs that training zeroes."""
    target_modules: tuple[Name, ...] = Field(default=(), strict=False)
    """Last parts of the names of linear layers to change; [] = attention and feed-forward, of sd35 attention alone."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Model:
    """[model]: the network."""

    name: Name = "dit"
    """Backbone."""
    pretrained: str = ""
    """What training starts from: the checkpoint folder of an earlier run (its EMA weights), or, for backbones of
    diffusers, a folder or Hub id ("owner/name" or "owner/name@revision") in its layout; "" = random weights."""
    architecture: Any = field(default_factory=dict)
    """The backbone's own table."""
    diffusion: Diffusion = field(default_factory=Diffusion)
    conditioning: Conditioning = field(default_factory=Conditioning)
    autoencoder: Autoencoder = field(default_factory=Autoencoder)
    lora: Lora = field(default_factory=Lora)
