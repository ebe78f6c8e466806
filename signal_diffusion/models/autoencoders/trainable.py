"""The variational autoencoder that we train: diffusers' AutoencoderKL (https://arxiv.org/abs/2112.10752).

It has only convolutions, without the optional attention in the middle. So cost and memory grow linearly with the size
of an example (a time series of 24 × 2048 has 768 positions in the middle, or 3072 at a quarter of the resolution), and
a part of an example is encoded as it is in the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from signal_diffusion.config.autoencoder_tables import KlArchitecture
from signal_diffusion.models.autoencoders.frozen import LOG_VARIANCES
from signal_diffusion.models.autoencoders.padding import pad_to_multiple, padding_to_multiple

__all__ = ["KlAutoencoder"]

INITIAL_LOG_VARIANCE = -10.0
"""Of a fresh network's posterior. At diffusers' variance of about 1, noise would hide what the decoder learns from."""
INITIAL_GAIN = 0.5
INITIAL_BRANCH_GAIN = 0.1
BATCH_SIZE = 16


class KlAutoencoder(nn.Module):
    """An AutoencoderKL with fresh weights, trained by one forward pass.

    Parameters
    ----------
    architecture
        Its sizes.
    shape
        Channels, rows and columns of the examples; sizes that it does not divide are padded with the last row and
        column, as in `models.autoencoders.frozen.Autoencoder`.
    """

    def __init__(self, architecture: KlArchitecture, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        levels = len(architecture.block_out_channels)
        from diffusers import AutoencoderKL  # takes seconds to import

        vae: Any = AutoencoderKL(
            in_channels=channels,
            out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=architecture.block_out_channels,
            layers_per_block=architecture.layers_per_block,
            latent_channels=architecture.latent_channels,
            norm_num_groups=architecture.norm_num_groups,
            sample_size=max(height, width),
            scaling_factor=1.0,
            shift_factor=0.0,
            force_upcast=False,
            use_quant_conv=False,
            use_post_quant_conv=False,
            mid_block_add_attention=False,
        )
        self.vae = vae
        factor = 2 ** (levels - 1)
        self.shape = shape
        self.padding = padding_to_multiple((height, width), factor)
        self.latent_shape = (architecture.latent_channels, -(-height // factor), -(-width // factor))
        _initialise_nearly_linear(vae, architecture.latent_channels)

    @property
    def blocks(self) -> nn.ModuleList:
        """The levels of the encoder and the decoder, and their middle blocks: the units of compilation."""
        encoder, decoder = self.vae.encoder, self.vae.decoder
        return nn.ModuleList([*encoder.down_blocks, encoder.mid_block, decoder.mid_block, *decoder.up_blocks])

    def checkpoint_gradients(self) -> None:
        """Turn gradient checkpointing on."""
        self.vae.enable_gradient_checkpointing()

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, (B, c, h, w) each, of examples x (B, C, H, W)."""
        moments = self.vae.encoder(pad_to_multiple(x, self.padding))
        mean, log_variance = moments.chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction of x (B, C, H, W), and the mean and the log-variance of its latents.

        With standard normal `noise` (B, c, h, w), latents drawn from the posterior are decoded; with None, the means.
        """
        mean, log_variance = self.posterior(x)
        z = mean if noise is None else mean + (log_variance / 2).exp() * noise
        _, height, width = self.shape
        return self.vae.decoder(z)[..., :height, :width], mean, log_variance

    @torch.no_grad()
    def in_diffusers_format(self, x: Tensor) -> dict[str, Callable[[Path], object]]:
        """Writers, by file name, of the files that `AutoencoderKL.from_pretrained` reads, with the current weights.

        The factors in `config.json` normalise latents z of the examples x (N, C, H, W), drawn from the posterior, to
        mean 0 and variance 1 over all channels together: (z - shift_factor) · scaling_factor.
        """
        device = self.vae.encoder.conv_out.weight.device
        moments = [self.posterior(batch.to(device)) for batch in x.split(BATCH_SIZE)]
        means = torch.cat([mean.double().cpu() for mean, _ in moments])
        variances = torch.cat([log_variance.double().exp().cpu() for _, log_variance in moments])
        deviation = (means.var(correction=0) + variances.mean()).sqrt()
        self.vae.register_to_config(scaling_factor=1 / deviation.item(), shift_factor=means.mean().item())
        text = self.vae.to_json_string()
        weights = {name: value.detach().cpu().clone() for name, value in self.vae.state_dict().items()}
        return {
            "config.json": lambda path: path.write_text(text, encoding="utf-8"),
            "diffusion_pytorch_model.safetensors": partial(save_file, weights, metadata={"format": "pt"}),
        }


@torch.no_grad()
def _initialise_nearly_linear(vae: Any, latent_channels: int) -> None:
    """Initialise a fresh network as a chain of orthogonal convolutions, with little noise in its latents.

    The two channels of db-iq with nearly random signs are hard to learn: with diffusers' initialisation, the network
    predicts zero for them for hundreds of steps. With residual branches of 0 and small gains before the nonlinearities,
    that lasts for 400 to 500 steps of 8 examples at an eighth of the size, and then it learns them.
    """
    encoder, decoder = vae.encoder, vae.decoder
    for module in vae.modules():
        kind = type(module).__name__
        if kind == "ResnetBlock2D":
            nn.init.constant_(module.norm1.weight, INITIAL_BRANCH_GAIN)
            nn.init.constant_(module.norm2.weight, INITIAL_BRANCH_GAIN)
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
            if module.conv_shortcut is not None:
                nn.init.orthogonal_(module.conv_shortcut.weight)
        elif kind in ("Downsample2D", "Upsample2D"):
            nn.init.orthogonal_(module.conv.weight)
    for convolution in (encoder.conv_in, decoder.conv_in):
        nn.init.orthogonal_(convolution.weight)
    for norm in (encoder.conv_norm_out, decoder.conv_norm_out):
        nn.init.constant_(norm.weight, INITIAL_GAIN)
    encoder.conv_out.weight[latent_channels:] *= 0.1
    encoder.conv_out.bias[latent_channels:] = INITIAL_LOG_VARIANCE
