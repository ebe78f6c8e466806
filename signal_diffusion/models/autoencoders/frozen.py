"""The latent space of a frozen variational autoencoder of diffusers (https://arxiv.org/abs/2112.10752).

A latent diffusion model trains on x0 = `encode`(example), and its samples are `decode`d. Whatever is easy to get wrong
unnoticed is done here, in one place: scaling, shift and normalisation of the latents, examples of one channel, and
sizes that the autoencoder does not divide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

from signal_diffusion.errors import UserError, raise_on_all_processes
from signal_diffusion.models.autoencoders.latent_statistics import LatentStatistics
from signal_diffusion.models.autoencoders.loading import KEY
from signal_diffusion.models.autoencoders.padding import pad_to_multiple, padding_to_multiple
from signal_diffusion.models.fingerprint import fingerprint

__all__ = ["LOG_VARIANCES", "Autoencoder"]

TILE = 512
"""Rows and columns of a tile, in pixels."""
PIXELS_AT_A_TIME = TILE**2
"""64 images of 64 × 64, for which the decoder of Stable Diffusion takes 1 to 2 GiB."""
LOG_VARIANCES = (-30.0, 20.0)
"""The range that diffusers clamps a posterior's log-variance to."""


class Autoencoder:
    """Encode and decode examples of one shape with a frozen VAE, in fp32 and without gradients.

    z = ((m - shift) · scaling - mean) / std, and x = decoder((z · std + mean) / scaling + shift). m is the mean of the
    posterior or a draw from it. shift and scaling are the VAE's own factors, as in the pipelines of diffusers (0 and 1
    for an AutoencoderTiny, whose latents are scaled already). mean and std are those of each channel over the training
    examples' latents, 0 and 1 until `normalise` sets them.

    A VAE of three channels receives an example of one channel in all three, and the decoded channels are averaged. If
    the VAE does not divide the size, the last row and column are repeated, which makes no edge in the image and is
    nothing new to the VAE; the padding is cropped after decoding.

    Parameters
    ----------
    vae
        An AutoencoderKL or AutoencoderTiny, for example from `load_vae`.
    shape
        Channels, rows and columns of the examples.
    tiling
        Whether to process examples of more than 512 rows or columns in tiles that overlap by a quarter.
    load
        Loads the VAE again after `release`; None = it is never released.

    Raises
    ------
    UserError
        If the VAE takes another number of channels, or cannot be tiled.
    """

    def __init__(
        self, vae: Any, shape: tuple[int, ...], *, tiling: bool = False, load: Callable[[], Any] | None = None
    ) -> None:
        config, (channels, height, width) = vae.config, shape
        if channels not in (1, config.in_channels):
            raise UserError(
                f"{KEY} the autoencoder takes {config.in_channels} channels, but the dataset's examples have "
                f"{channels}; use an autoencoder of {channels} channels, or examples of one channel"
            )
        self.kind = type(vae).__name__
        if tiling and self.kind != "AutoencoderKL":  # diffusers can tile an AutoencoderTiny only for 4 latent channels
            raise UserError(f"[model.autoencoder] tiling: {self.kind} is small and needs no tiles; set it to false")
        self.shape, self.tiling, self._load = shape, tiling, load
        self.scaling, self.shift = _factors(vae)
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.padding = padding_to_multiple((height, width), self.factor)
        self.latent_shape: tuple[int, int, int] = (
            config.latent_channels,
            (height + self.padding[0]) // self.factor,
            (width + self.padding[1]) // self.factor,
        )
        self.settings = {name: value for name, value in config.items() if not name.startswith("_")}
        """The values in the VAE's `config.json`."""
        self.has_posterior = self.kind == "AutoencoderKL"
        self.statistics: LatentStatistics | None = None
        """The statistics that `normalise` was called with."""
        self._device = torch.device("cpu")
        self._in_channels: int = config.in_channels
        self._offset, self._gain = torch.tensor(self.shift), torch.tensor(self.scaling)
        self._vae: Any | None = self._prepared(vae)
        self.num_parameters = sum(parameter.numel() for parameter in vae.parameters())
        self.fingerprint = _fingerprint(vae)
        """SHA-256 of the weights and of the scaling and shift factors."""

    @property
    def vae(self) -> Any:
        """The VAE, loaded again if it was released.

        Raises
        ------
        UserError
            If it has been removed or changed meanwhile.
        """
        if self._vae is None:
            assert self._load is not None
            vae = self._prepared(self._load())
            if _fingerprint(vae) != self.fingerprint:
                raise UserError(f"{KEY} the weights have changed since this run started; restore the original ones")
            self._vae = vae.to(self._device)
        return self._vae

    @property
    def moments_shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of `moments` for one example."""
        channels, height, width = self.latent_shape
        return channels * (1 + self.has_posterior), height, width

    @property
    def description(self) -> str:
        """A description of the latents and the padding, for the log."""
        (_, height, width), (down, right) = self.shape, self.padding
        padded = f", padded to {height + down} × {width + right}" if down or right else ""
        tiled = ", in tiles" if self.tiling and max(height, width) > TILE else ""
        return (
            f"{_sizes(self.latent_shape)} latents by {self.kind} from examples of {_sizes(self.shape)}{padded}{tiled}"
        )

    def to(self, device: torch.device | str) -> Self:
        """Compute on a device, wherever the inputs are."""
        self._device = torch.device(device)
        self._offset, self._gain = self._offset.to(device), self._gain.to(device)
        if self._vae is not None:
            self._vae.to(self._device)
        return self

    def release(self) -> None:
        """Free the VAE's memory until it is needed again."""
        if self._load is None:
            return
        self._vae = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Keep the VAE in memory inside the block, on all processes; release it afterwards if it was released before.

        Raises
        ------
        UserError
            On all processes, if one of them finds it removed or changed.
        """
        was_released = self._vae is None
        try:
            with raise_on_all_processes():
                self._vae = self.vae
            yield
        finally:
            if was_released:
                self.release()

    def normalise(self, statistics: LatentStatistics) -> None:
        """Normalise latents by these statistics, to mean 0 and standard deviation 1 in each channel."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (statistics.mean, statistics.std))
        if not len(mean) == len(std) == self.latent_shape[0]:
            raise UserError(
                f"the checkpoint's statistics are of {len(mean)} and {len(std)} latent channels, but the autoencoder "
                f"has {self.latent_shape[0]}; use another checkpoint"
            )
        # One subtraction and one product in each direction, to lose as little as possible to rounding.
        self._offset = (self.shift + mean / self.scaling).float()[:, None, None].to(self._device)
        self._gain = (self.scaling / std).float()[:, None, None].to(self._device)
        self.statistics = statistics

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The latents (B, c, h, w) of examples x (B, C, H, W) in [-1, 1], on the device of x; see `latents`."""
        return self.latents(self.moments(x), generator)

    def moments(self, x: Tensor) -> Tensor:
        """The VAE's output for examples x (B, C, H, W): means and log-variances (B, 2c, h, w), on the device of x.

        An AutoencoderTiny has no posterior and gives latents (B, c, h, w). Nothing is scaled yet.
        """
        x = pad_to_multiple(x.float(), self.padding)
        return self._in_batches(self._moments, x.expand(-1, self._in_channels, -1, -1))

    def latents(self, moments: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The latents (B, c, h, w) of `moments`: their mean, or with a `generator` a draw from the posterior."""
        mean = moments[:, : self.latent_shape[0]]
        if generator is not None and self.has_posterior:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            mean = mean + (0.5 * _log_variance(moments)).exp() * noise
        return (mean - self._offset.to(mean.device)) * self._gain.to(mean.device)

    def variances(self, moments: Tensor) -> Tensor:
        """Variances (B, c, h, w) of the draws that `latents` makes from `moments`, about their mean."""
        if not self.has_posterior:
            return torch.zeros_like(moments)
        return _log_variance(moments).exp() * self._gain.to(moments.device) ** 2

    def decode(self, z: Tensor) -> Tensor:
        """The examples (B, C, H, W), in [-1, 1] or a little beyond, of latents z (B, c, h, w), on the device of z."""
        channels, height, width = self.shape
        mean = z.float() / self._gain.to(z.device) + self._offset.to(z.device)
        x = self._in_batches(lambda batch: self.vae.decode(batch).sample, mean)
        x = x[..., :height, :width]
        return x.mean(1, keepdim=True) if channels < x.shape[1] else x

    def _moments(self, x: Tensor) -> Tensor:
        encoded = self.vae.encode(x)
        return encoded.latent_dist.parameters if self.has_posterior else encoded.latents

    @torch.no_grad()
    def _in_batches(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Apply `function` to a few inputs at a time on the VAE's device, so that its memory there is bounded."""
        _, height, width = self.latent_shape
        size = max(1, PIXELS_AT_A_TIME // (height * width * self.factor**2))
        return torch.cat([function(batch.to(self._device)).to(inputs.device) for batch in inputs.split(size)])

    def _prepared(self, vae: Any) -> Any:
        vae = vae.float().requires_grad_(False).eval()
        if self.tiling:
            vae.enable_tiling()
            # not the VAE's `sample_size`: diffusers' default is 32, and tiles so small would be mostly overlap
            vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // self.factor
        return vae


def _factors(vae: Any) -> tuple[float, float]:
    """The VAE's own scaling and shift."""
    return vae.config.scaling_factor, vae.config.shift_factor or 0.0


def _fingerprint(vae: Any) -> str:
    weights = {f"vae.{name}": value for name, value in vae.state_dict().items()}
    return fingerprint({**weights, "scaling and shift": torch.tensor(_factors(vae))})


def _log_variance(moments: Tensor) -> Tensor:
    """The log-variance of the posterior, clamped as in diffusers."""
    return moments.chunk(2, dim=1)[1].clamp(*LOG_VARIANCES)


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
