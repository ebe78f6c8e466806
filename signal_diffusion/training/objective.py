"""Training objective: predict the method's target from a noised example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from signal_diffusion.data.augmentation import Augmenting
from signal_diffusion.data.loaders import Batch
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.training.by_montage import loss_of_each, without_absent
from signal_diffusion.training.latents import Encoding
from signal_diffusion.training.masking import Masking
from signal_diffusion.training.perceptual import Perceptual

__all__ = ["Denoising"]


@dataclass(frozen=True, kw_only=True)
class Denoising:
    """The `Objective` of a denoiser, in the space of the examples or of an autoencoder's latents."""

    method: Method
    encoding: Encoding | None
    """Encodes into the latent space, on the device; None = train on the examples themselves."""
    augmentation: Augmenting
    cfg_dropout: float
    attribute_dropout: float
    masking: Masking | None = None
    """None = nothing is given of any example."""
    perceptual: Perceptual | None = None
    """None = only the squared error."""
    places: Tensor | None = None
    """Places of the electrodes, (H, 3), of which examples may lack some; None = no example does."""

    def __call__(
        self, network: nn.Module, batch: Batch, generator: torch.Generator, part: tuple[int, int] = (0, 1)
    ) -> Tensor:
        """The mean loss of a batch; times, noise and dropped conditions are sampled from `generator`."""
        (x, attributes), present = batch, None
        index, count = part
        if self.places is not None:
            x, present = without_absent(x)
        x0 = self.augmentation(x, generator)
        if self.encoding:
            x0 = self.encoding(x0, generator)
        x0, known = self.method.normalisation.normalised(x0), None
        if self.masking:
            x0, known = self.masking(x0, generator, present)
        t = self.method.sample_time(len(x0), generator, index=index, count=count)
        noise = torch.randn(x0.shape, generator=generator, device=x0.device)
        cond = self.dropped(Conditioning(attributes), generator).with_known(known)
        losses = loss_of_each(
            network,
            self.method,
            x0,
            noise,
            t,
            cond,
            places=self.places,
            present=present,
            perceptual=self.perceptual,
        )
        return losses.mean()

    def dropped(self, cond: Conditioning, generator: torch.Generator) -> Conditioning:
        """Replace conditions by nulls at random: all of an example's (for guidance), or single attributes."""
        count = len(cond)
        if self.cfg_dropout:
            cond = cond.drop(torch.rand(count, generator=generator, device=generator.device) < self.cfg_dropout)
        if self.attribute_dropout:
            draws = {  # sorted, so that the order in the experiment file does not matter
                name: torch.rand(count, generator=generator, device=generator.device)
                for name in sorted(cond.attributes)
            }
            cond = cond.drop_each({name: draw < self.attribute_dropout for name, draw in draws.items()})
        return cond
