"""The tables of an experiment that trains an autoencoder: [model], [model.architecture] and [model.loss].

All other tables are shared with diffusion experiments; `rules` lists those of their keys that an autoencoder ignores.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.data_tables import Data
from signal_diffusion.config.run_tables import Compute, Debug, Logging, Output, ValidationRules
from signal_diffusion.config.training_tables import Training
from signal_diffusion.config.types import LEVELS, TABLE, Layers, NotNegative, Width

__all__ = ["AUTOENCODER", "AutoencoderExperiment", "AutoencoderModel", "KlArchitecture", "Loss"]

AUTOENCODER = "autoencoder_kl"
"""The `[model] name` that marks a file as the experiment of an autoencoder."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class KlArchitecture:
    """[model.architecture]: a diffusers AutoencoderKL, convolutions only."""

    block_out_channels: Annotated[tuple[Width, ...], LEVELS] = Field(default=(16, 32, 64, 128), strict=False)
    """Channels at each resolution, full resolution first; n entries shrink latents 2 ** (n - 1) times per side."""
    layers_per_block: Layers = 1
    """Residual blocks per resolution in the encoder; the decoder has one more."""
    latent_channels: Width = 16
    """Channels of the latents; sd35 expects 16."""
    norm_num_groups: Width = 1
    """Groups of the group norms; must divide every entry of `block_out_channels`."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Loss:
    """[model.loss]: the sum reconstruction + stft_weight · STFT + signal_weight · signal + kl_weight · KL."""

    reconstruction: Literal["l1", "l2"] = "l2"
    """Mean absolute or mean squared error of the tensors, whose values are in [-1, 1]."""
    stft_weight: NotNegative = 0.01
    """Weight of the multi-resolution STFT loss of the signals, magnitudes only (https://arxiv.org/abs/1910.11480)."""
    signal_weight: NotNegative = 0.05
    """Weight of the relative error of the signals in µV, ‖x - x̂‖ / ‖x‖, which determines their correlation."""
    kl_weight: NotNegative = 1e-6
    """Weight of the KL divergence of the posterior from N(0, 1), in nats, averaged over the values of a latent."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class AutoencoderModel:
    """[model]: the network."""

    name: Literal["autoencoder_kl"] = "autoencoder_kl"
    """Kind of model; required, since it marks the file as that of an autoencoder."""
    architecture: KlArchitecture = field(default_factory=KlArchitecture)
    loss: Loss = field(default_factory=Loss)


@dataclass(frozen=True, kw_only=True, config=TABLE)
class AutoencoderExperiment:
    """The whole experiment file of an autoencoder."""

    compute: Compute = field(default_factory=Compute)
    data: Data = field(default_factory=Data)
    model: AutoencoderModel = field(default_factory=AutoencoderModel)
    training: Training = field(default_factory=Training)
    output: Output = field(default_factory=Output)
    logging: Logging = field(default_factory=Logging)
    validation_rules: ValidationRules = field(default_factory=ValidationRules)
    debug: Debug = field(default_factory=Debug)
