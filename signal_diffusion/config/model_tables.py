"""The tables of a diffusion model: [model] and its subtables."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import TABLE, BelowOne, Classes, Finite, Name, Positive, Timesteps, Tokens, Width

__all__ = ["Autoencoder", "Conditioning", "Diffusion", "Lora", "Model"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Diffusion:
    """[model.diffusion]: the noising process, and what the network predicts."""

    method: Name = "ddpm"
    """"ddpm" (discrete beta schedules) or "rectified_flow" (straight paths). Choose "rectified_flow" for new
    experiments, as all files in config/ do, and "ddpm" to compare with earlier work."""
    prediction: Name | None = None
    """"epsilon", "sample", "v" or "velocity"; absent = epsilon for ddpm, velocity for rectified_flow. Seldom
    changed."""
    loss: Literal["prediction", "velocity", "x0", "epsilon"] = "prediction"
    """Quantity in which the squared error is taken: "prediction" = the one that the network predicts; another weighs
    the same error by time. Large patches learn best with prediction "sample" and loss "velocity" (arXiv
    2511.13720)."""
    noise: Literal["white", "pink"] = "white"
    """timeseries: "pink" = noise whose spectrum falls half as steeply as that of the training signals, so that fast
    rhythms are not lost in it at once, and are learnt early. Such a model cannot restore or continue signals."""
    num_timesteps: Timesteps = 1000
    """ddpm: number of noise levels. Seldom changed."""
    beta_schedule: Literal["linear", "cosine", "quadratic", "sigmoid"] = "cosine"
    """ddpm: shape of the noise schedule; cosine has an offset of 0.008 and ignores the betas."""
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
    """[model.conditioning]: what samples can be conditioned on."""

    type: Literal["none", "class", "caption", "attributes"] = "none"
    """"class" conditions on the label, "caption" on the caption, "attributes" on the columns named in `attributes`."""
    num_classes: Classes | None = None
    """Number of classes; absent = the dataset's. A different number is an error."""
    attributes: tuple[Name, ...] | None = Field(default=None, strict=False, min_length=1)
    """Attributes for type "attributes", any that the dataset's card lists; absent = those of gender, health, age,
    electrode and dataset that vary between its examples."""
    cfg_dropout: BelowOne = 0.1
    """Fraction of training examples whose whole condition is replaced by the null condition, for guidance. 0.1 to 0.2
    is usual; 0 if samples are never guided."""
    attribute_dropout: BelowOne = 0.1
    """Fraction of training examples in which an attribute is replaced by its null, independently for each attribute, so
    that samples can be requested with only some of them; no effect on a single attribute, for which `cfg_dropout` does
    the same."""
    electrodes: Literal["name", "position"] = "name"
    """How a model of time series tells electrodes apart: "name" learns an embedding of each; "position" embeds its
    place on the head, so that samples may be of other electrodes, and of any number of them, and training recordings
    may lack some. That needs the positions of the dataset's electrodes, and a `dit` or an `hourglass`."""
    text_encoder: str = ""
    """Folder, or Hub id, of a transformers text encoder, or of a diffusers pipeline with text encoders; "" = those of
    `model.pretrained`."""
    max_caption_tokens: Tokens = 77
    """Longest caption in tokens; longer captions are truncated. Raise it if a warning says that captions are cut."""
    skip_t5: bool = False
    """Embed captions only with the two CLIPs of a Stable Diffusion 3 pipeline, not with its T5, whose tokens are then
    zeros: T5-XXL is a download of 9 GB and reads long sentences, which captions of EEG seldom are."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Autoencoder:
    """[model.autoencoder]: train the diffusion model in the latent space of a frozen VAE."""

    enabled: bool = False
    """Encode the data, and decode the samples."""
    path: str = ""
    """Folder, or Hub id, of a diffusers AutoencoderKL or AutoencoderTiny, or of a pipeline with one; "" = that of
    `model.pretrained`."""
    sample_posterior: bool = True
    """Train on a latent sampled from the posterior each time, not on its mean; validation uses the mean. No effect on
    an AutoencoderTiny, which has no posterior."""
    cache_latents: bool = False
    """Encode each split once, into the cache, and train on the cached latents; the autoencoder is then not kept in
    memory. Set true unless the disk is small."""
    tiling: bool = False
    """Encode and decode large examples in overlapping tiles, which bounds memory; seams are blended, so not exact. Set
    true only if encoding runs out of memory."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Lora:
    """[model.lora]: LoRA, low-rank updates of a pretrained transformer (https://arxiv.org/abs/2106.09685)."""

    enabled: bool = False
    """Freeze the pretrained weights, and train low-rank updates and the layers that embed the conditions."""
    rank: Width = 16
    """Rank of the updates. Raise it if the training loss stays high; lower it for few examples."""
    alpha: Positive = 16.0
    """The updates are scaled by alpha / rank. Usually equal to the rank, or twice that."""
    dropout: BelowOne = 0.0
    """Dropout rate of the inputs of the updates."""
    target_modules: tuple[Name, ...] = Field(default=(), strict=False)
    """Last parts of the names of linear layers to update; [] = attention and feed-forward, for sd35 only attention.
    Seldom changed."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Model:
    """[model]: the network."""

    name: Name = "dit"
    """Backbone."""
    pretrained: str = ""
    """Weights to start from: a checkpoint folder of an earlier run (its EMA weights), or, for diffusers backbones, a
    folder or Hub id ("owner/name" or "owner/name@revision") in the diffusers layout; "" = random weights."""
    architecture: Any = field(default_factory=dict)
    """The backbone's own table."""
    diffusion: Diffusion = field(default_factory=Diffusion)
    conditioning: Conditioning = field(default_factory=Conditioning)
    autoencoder: Autoencoder = field(default_factory=Autoencoder)
    lora: Lora = field(default_factory=Lora)
