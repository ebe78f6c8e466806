"""The latent space of a frozen variational autoencoder of diffusers (https://arxiv.org/abs/2112.10752).

A network that works in it trains on x0 = `encode`(example), and what it generates is `decode`d. What goes wrong in
silence elsewhere is done in one place here: the scaling and the shift of the latents, examples of one channel, and
sizes that the autoencoder does not divide.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from signal_diffusion.errors import UserError
from signal_diffusion.models.pretrained import located

__all__ = ["Autoencoder", "load_vae"]

KINDS = ("AutoencoderKL", "AutoencoderTiny")
PIXELS_AT_A_TIME = 2**18
"""64 pictures of 64 × 64: the decoder of Stable Diffusion takes 1 to 2 GiB for as many."""

_KEY = "[model.autoencoder] path:"


class Autoencoder(nn.Module):
    """`encode` and `decode` for examples of one shape, in fp32 and without gradients; what a VAE is trained for stays.

    z = (mean of the posterior - shift) · scaling and x = decoder(z / scaling + shift), as in the pipelines of
    diffusers, with the VAE's own factors; those of an AutoencoderTiny, which learnt latents that are scaled already,
    are 1 and 0. Examples of one channel are given to a VAE of three in each, and come back as the mean. Rows and
    columns that the VAE does not divide are continued by repeating the last one, which neither makes an edge in the
    picture nor asks the network for anything new, and are cut off again.

    Parameters
    ----------
    vae
        An AutoencoderKL or AutoencoderTiny, such as `load_vae` gives.
    shape
        Channels, rows and columns of the examples.

    Raises
    ------
    UserError
        Where the VAE takes another number of channels.
    """

    def __init__(self, vae: Any, shape: tuple[int, ...]) -> None:
        super().__init__()
        config, (channels, height, width) = vae.config, shape
        if channels not in (1, config.in_channels):
            raise UserError(
                f"{_KEY} an autoencoder of {config.in_channels} channels, but the dataset's "
                f"examples have {channels}; expected as many, or examples of one channel"
            )
        self.vae = vae.float().requires_grad_(False).eval()
        self.shape = shape
        self.scaling: float = config.scaling_factor
        self.shift: float = config.shift_factor or 0.0
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.padding = (-height % self.factor, -width % self.factor)
        self.latent_shape: tuple[int, int, int] = (
            config.latent_channels,
            (height + self.padding[0]) // self.factor,
            (width + self.padding[1]) // self.factor,
        )

    @property
    def description(self) -> str:
        """The space in words, and what is padded, for the log."""
        (_, height, width), (down, right) = self.shape, self.padding
        padded = f", padded to {height + down} × {width + right}" if down or right else ""
        kind = type(self.vae).__name__
        return f"{_sizes(self.latent_shape)} latents by {kind} of examples of {_sizes(self.shape)}{padded}"

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def encode(self, x: Tensor) -> Tensor:
        """The latents (B, c, h, w) of examples x (B, C, H, W) in [-1, 1], on the device of x."""
        down, right = self.padding
        x = F.pad(x.float(), (0, right, 0, down), mode="replicate")
        z = self._in_parts(self._posterior_mean, x.expand(-1, self.vae.config.in_channels, -1, -1))
        return (z - self.shift) * self.scaling

    def decode(self, z: Tensor) -> Tensor:
        """The examples (B, C, H, W), in [-1, 1] or a little beyond, of latents z (B, c, h, w), on the device of z."""
        channels, height, width = self.shape
        x = self._in_parts(lambda part: self.vae.decode(part).sample, z.float() / self.scaling + self.shift)
        x = x[..., :height, :width]
        return x.mean(1, keepdim=True) if channels < x.shape[1] else x

    def _posterior_mean(self, x: Tensor) -> Tensor:
        encoded = self.vae.encode(x)
        return encoded.latent_dist.mean if "latent_dist" in encoded else encoded.latents

    @torch.no_grad()
    def _in_parts(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """`function` of a few inputs at a time, each on the VAE's device, so that memory there is bounded."""
        _, height, width = self.latent_shape
        size = max(1, PIXELS_AT_A_TIME // (height * width * self.factor**2))
        device = next(self.vae.parameters()).device
        return torch.cat([function(part.to(device)).to(inputs.device) for part in inputs.split(size)])


def load_vae(source: str) -> Any:
    """The VAE of a local folder or of the Hub ("owner/name" or "owner/name@revision"), or the one in a pipeline there.

    Raises
    ------
    UserError
        Where there is none, it cannot be reached, or its weights are not whole.
    """
    import diffusers  # takes seconds, and most runs have no use for it

    try:
        folder = located(source, "vae")
    except UserError as error:
        raise UserError(f"{_KEY} {error}") from None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (kind := config.get("_class_name")) not in KINDS:
        raise UserError(f"{_KEY} {folder} holds a {kind}; expected {' or '.join(KINDS)}")
    if unread := [name for name in ("latents_mean", "latents_std") if config.get(name) is not None]:
        raise UserError(
            f"{_KEY} {folder / 'config.json'} has {' and '.join(unread)}, and latents that are scaled channel by "
            "channel are not supported; expected an autoencoder with scaling_factor and shift_factor alone"
        )
    try:
        # not `load_tensors`: the weights of Stable Diffusion 1 have names of their own, which diffusers knows
        vae, loading = getattr(diffusers, kind).from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{_KEY} cannot read the weights in {folder}: {reason}") from None
    if lacking := loading["missing_keys"]:
        raise UserError(f"{_KEY} the weights in {folder} lack {sorted(lacking)[0]!r}; copy or download them again")
    return vae


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
