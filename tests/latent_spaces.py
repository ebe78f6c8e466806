"""Shared by the tests of latents: a small VAE, and examples to encode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import Examples
from signal_diffusion.models.autoencoders.frozen import Autoencoder


def small_vae(seed: int = 0, **settings: Any) -> AutoencoderKL:
    """A VAE with random weights that makes 4 channels of latents, 8 times smaller."""
    torch.manual_seed(seed)
    sizes = {"block_out_channels": (4,) * 4, "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    return AutoencoderKL(**{**sizes, **blocks, "scaling_factor": 1.5, "shift_factor": 0.1, **settings})


def autoencoder(seed: int = 0) -> Autoencoder:
    """The `Autoencoder` of `small_vae`, for images of one channel."""
    return Autoencoder(small_vae(seed), (1, 64, 64))


def pictures(root: Path, count: int, **options: Any) -> Examples:
    """`count` training images, evenly spread over a dataset, with their labels."""
    split = open_split(root, "train")
    rows = np.linspace(0, len(split) - 1, count).astype(int)
    attributes = {"label": ("label", ("alert", "relaxed"))}
    return Examples(split, shape=(1, 64, 64), attributes=attributes, subset=rows.tolist(), **options)
