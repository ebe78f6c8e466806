"""The latent space of a frozen variational autoencoder of diffusers (https://arxiv.org/abs/2112.10752).

A network that works in it trains on x0 = `encode`(example), and what it generates is `decode`d. What goes wrong in
silence elsewhere is done in one place here: scaling, shift and normalisation of the latents, examples of one channel,
and sizes that the autoencoder does not divide.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.errors import UserError, raised_by_all
from signal_diffusion.models.fingerprint import fingerprint
from signal_diffusion.models.pretrained import located

__all__ = ["LOG_VARIANCES", "Autoencoder", "LatentStatistics", "load_vae", "padded", "padding_of"]

KINDS = ("AutoencoderKL", "AutoencoderTiny")
TILE = 512
"""Rows and columns of a tile."""
PIXELS_AT_A_TIME = TILE**2
"""64 pictures of 64 × 64: the decoder of Stable Diffusion takes 1 to 2 GiB for as many."""

LOG_VARIANCES = (-30.0, 20.0)
"""The limits that diffusers sets to a posterior's."""

_KEY = "[model.autoencoder] path:"


@dataclass(frozen=True)
class LatentStatistics:
    """Of each channel of the latents under the VAE's own factors, over training examples, positions and draws."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Above zero; 1 for a channel without spread."""

    def to_json(self) -> str:
        """Write them as text that reads back the same."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json`'s text."""
        entries = json.loads(text)
        return cls(tuple(entries["mean"]), tuple(entries["std"]))


class Autoencoder:
    """`encode` and `decode` for examples of one shape, in fp32 and without gradients; what a VAE is trained for stays.

    z = ((m - shift) · scaling - mean) / std, and x = decoder((z · std + mean) / scaling + shift). m is the mean of the
    posterior or a draw from it, shift and scaling are the VAE's own factors, as in the pipelines of diffusers (those of
    an AutoencoderTiny, which learnt latents that are scaled already, are 0 and 1), and mean and std those of the
    training examples' latents by channel, 0 and 1 until `normalise` is told others.

    Examples of one channel are given to a VAE of three in each, and come back as the mean. Rows and columns that the
    VAE does not divide are continued by repeating the last one, which neither makes an edge in the picture nor asks the
    network for anything new, and are cut off again.

    Parameters
    ----------
    vae
        An AutoencoderKL or AutoencoderTiny, such as `load_vae` gives.
    shape
        Channels, rows and columns of the examples.
    tiling
        Whether examples of more than 512 rows or columns go through in tiles that overlap by a quarter.
    load
        Gives the VAE again after `release`; None = it is never released.

    Raises
    ------
    UserError
        Where the VAE takes another number of channels, or cannot be tiled.
    """

    def __init__(
        self, vae: Any, shape: tuple[int, ...], *, tiling: bool = False, load: Callable[[], Any] | None = None
    ) -> None:
        config, (channels, height, width) = vae.config, shape
        if channels not in (1, config.in_channels):
            raise UserError(
                f"{_KEY} an autoencoder of {config.in_channels} channels, but the dataset's "
                f"examples have {channels}; expected as many, or examples of one channel"
            )
        self.kind = type(vae).__name__
        if tiling and self.kind != "AutoencoderKL":
            raise UserError(
                f"[model.autoencoder] tiling: {self.kind} is small and goes without, diffusers tiles it for four "
                "channels of latents alone; expected false"
            )
        self.shape, self.tiling, self._load = shape, tiling, load
        self.scaling, self.shift = _factors(vae)
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.padding = padding_of((height, width), self.factor)
        self.latent_shape: tuple[int, int, int] = (
            config.latent_channels,
            (height + self.padding[0]) // self.factor,
            (width + self.padding[1]) // self.factor,
        )
        self.settings = {name: value for name, value in config.items() if not name.startswith("_")}
        """What the VAE's `config.json` says."""
        self.has_posterior = self.kind == "AutoencoderKL"
        self.statistics: LatentStatistics | None = None
        """What `normalise` was told."""
        self._device = torch.device("cpu")
        self._in_channels: int = config.in_channels
        self._offset, self._gain = torch.tensor(self.shift), torch.tensor(self.scaling)
        self._vae: Any | None = self._prepared(vae)
        self.num_parameters = sum(parameter.numel() for parameter in vae.parameters())
        self.fingerprint = _fingerprint(vae)
        """SHA-256 of the weights and of what makes latents of their output."""

    @property
    def vae(self) -> Any:
        """The VAE, loaded again where it was released.

        Raises
        ------
        UserError
            Where it has gone or changed meanwhile.
        """
        if self._vae is None:
            assert self._load is not None
            vae = self._prepared(self._load())
            if _fingerprint(vae) != self.fingerprint:
                raise UserError(f"{_KEY} other weights than this run began with; put those back")
            self._vae = vae.to(self._device)
        return self._vae

    @property
    def moments_shape(self) -> tuple[int, int, int]:
        """Of one example: channels, rows and columns of `moments`."""
        channels, height, width = self.latent_shape
        return channels * (1 + self.has_posterior), height, width

    @property
    def description(self) -> str:
        """The space in words, and what is padded, for the log."""
        (_, height, width), (down, right) = self.shape, self.padding
        padded = f", padded to {height + down} × {width + right}" if down or right else ""
        tiled = ", in tiles" if self.tiling and max(height, width) > TILE else ""
        return f"{_sizes(self.latent_shape)} latents by {self.kind} of examples of {_sizes(self.shape)}{padded}{tiled}"

    def to(self, device: torch.device | str) -> Self:
        """Work on a device, whichever the inputs are on."""
        self._device = torch.device(device)
        self._offset, self._gain = self._offset.to(device), self._gain.to(device)
        if self._vae is not None:
            self._vae.to(self._device)
        return self

    def release(self) -> None:
        """Let go of the VAE until it is needed again."""
        if self._load is None:
            return
        self._vae = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Have the VAE in memory for a while, on all processes, and let go of it after that where it had been released.

        Raises
        ------
        UserError
            On all processes, where it has gone or changed meanwhile for one of them.
        """
        was_released = self._vae is None
        try:
            with raised_by_all():
                self._vae = self.vae
            yield
        finally:
            if was_released:
                self.release()

    def normalise(self, statistics: LatentStatistics) -> None:
        """Make latents of mean 0 and standard deviation 1 in each channel, as far as the statistics tell."""
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (statistics.mean, statistics.std))
        # One subtraction and one product in each direction, so that as little as can be is lost to rounding.
        self._offset = (self.shift + mean / self.scaling).float()[:, None, None].to(self._device)
        self._gain = (self.scaling / std).float()[:, None, None].to(self._device)
        self.statistics = statistics

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The latents (B, c, h, w) of examples x (B, C, H, W) in [-1, 1], on the device of x; see `latents`."""
        return self.latents(self.moments(x), generator)

    def moments(self, x: Tensor) -> Tensor:
        """What the VAE makes of examples x (B, C, H, W): means and log-variances (B, 2c, h, w), on the device of x.

        Of an AutoencoderTiny, which has no posterior, latents (B, c, h, w). Nothing is scaled yet.
        """
        x = padded(x.float(), self.padding)
        return self._in_parts(self._moments, x.expand(-1, self._in_channels, -1, -1))

    def latents(self, moments: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The latents (B, c, h, w) of `moments`: their mean, or a draw from the posterior by `generator`."""
        mean = moments[:, : self.latent_shape[0]]
        if generator is not None and self.has_posterior:
            noise = torch.randn(mean.shape, generator=generator, device=mean.device)
            mean = mean + (0.5 * _log_variance(moments)).exp() * noise
        return (mean - self._offset.to(mean.device)) * self._gain.to(mean.device)

    def variances(self, moments: Tensor) -> Tensor:
        """Of the draws that `latents` makes of `moments`, about their mean: (B, c, h, w)."""
        if not self.has_posterior:
            return torch.zeros_like(moments)
        return _log_variance(moments).exp() * self._gain.to(moments.device) ** 2

    def decode(self, z: Tensor) -> Tensor:
        """The examples (B, C, H, W), in [-1, 1] or a little beyond, of latents z (B, c, h, w), on the device of z."""
        channels, height, width = self.shape
        mean = z.float() / self._gain.to(z.device) + self._offset.to(z.device)
        x = self._in_parts(lambda part: self.vae.decode(part).sample, mean)
        x = x[..., :height, :width]
        return x.mean(1, keepdim=True) if channels < x.shape[1] else x

    def _moments(self, x: Tensor) -> Tensor:
        encoded = self.vae.encode(x)
        return encoded.latent_dist.parameters if self.has_posterior else encoded.latents

    @torch.no_grad()
    def _in_parts(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """`function` of a few inputs at a time, each on the VAE's device, so that memory there is bounded."""
        _, height, width = self.latent_shape
        size = max(1, PIXELS_AT_A_TIME // (height * width * self.factor**2))
        return torch.cat([function(part.to(self._device)).to(inputs.device) for part in inputs.split(size)])

    def _prepared(self, vae: Any) -> Any:
        vae = vae.float().requires_grad_(False).eval()
        if self.tiling:
            vae.enable_tiling()
            # not the VAE's `sample_size`: diffusers' default for that is 32, of which tiles would be all seams
            vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // self.factor
        return vae


def _factors(vae: Any) -> tuple[float, float]:
    """Scaling and shift of the VAE's own."""
    return vae.config.scaling_factor, vae.config.shift_factor or 0.0


def _fingerprint(vae: Any) -> str:
    weights = {f"vae.{name}": value for name, value in vae.state_dict().items()}
    return fingerprint({**weights, "scaling and shift": torch.tensor(_factors(vae))})


def _log_variance(moments: Tensor) -> Tensor:
    """Of the posterior."""
    return moments.chunk(2, dim=1)[1].clamp(*LOG_VARIANCES)


def padding_of(size: tuple[int, int], factor: int) -> tuple[int, int]:
    """How many rows and columns examples lack of multiples of a factor."""
    height, width = size
    return -height % factor, -width % factor


def padded(x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Examples (B, C, H, W) with so many rows and columns more, which repeat the last one."""
    down, right = padding
    return F.pad(x, (0, right, 0, down), mode="replicate")


def load_vae(source: str) -> Any:
    """The VAE of a local folder or of the Hub ("owner/name" or "owner/name@revision"), or the one in a pipeline there.

    Raises
    ------
    UserError
        Where there is none, it cannot be reached, or its weights are not whole.
    """
    import diffusers  # takes seconds, and most runs have no use for it
    from diffusers.utils import logging

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
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # keys of a config.json that a class does not take are nobody's concern
    try:
        # not `load_tensors`: the weights of Stable Diffusion 1 have names of their own, which diffusers knows
        vae, loading = getattr(diffusers, kind).from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{_KEY} cannot read the weights in {folder}: {reason}") from None
    finally:
        logging.set_verbosity(verbosity)
    if lacking := loading["missing_keys"]:
        raise UserError(f"{_KEY} the weights in {folder} lack {sorted(lacking)[0]!r}; copy or download them again")
    return vae


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
