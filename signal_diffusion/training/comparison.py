"""How far the mean spectrum of samples is from that of validation examples, while a model is trained.

A log-spectral distance of what the model itself sees: each side's levels in dB are averaged over its examples,
electrodes and times (`Representation.mean_spectrum`), and the distance is the root mean square, over the frequencies
from 1 to 45 Hz, of the difference of these two spectra. So it needs no phase, and sees no difference of electrodes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, derived_seed
from signal_diffusion.training.sampling import by_itself, draw, gathered, own_numbers
from signal_diffusion.training.validation import in_eval_mode

__all__ = ["SpectralComparison"]

LOWEST, HIGHEST = 1.0, 45.0
"""Hz, both included."""
AT_A_TIME = 64
"""Examples whose spectra are taken together."""


class SpectralComparison:
    """Always the same number of samples, of the same noise, under conditions of examples spread over the validation's.

    Sample i depends on the weights and on (seed, i) alone, whatever the number of processes; its noise is neither that
    of the previews nor that of later samples. The examples that all of them are compared with are as many as the
    validation loss is of.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        representation: Representation,
        method: Method,
        sampling: schema.Sampling,
        guidance_scale: float,
        num_samples: int,
        num_examples: int,
        seed: int,
        autoencoder: Autoencoder | None,
    ) -> None:
        """Take the spectrum of the examples: data (C, H, W), also where the model works on latents.

        Raises
        ------
        UserError
            Where they have none from 1 to 45 Hz.
        """
        self._representation, self._method, self._autoencoder = representation, method, autoencoder
        self._count, self._shape = num_samples, examples.shape
        scale, own_seed = guidance_scale, derived_seed(Purpose.COMPARISON, seed)
        self._sampling = by_itself(sampling, guidance_scale=scale, seed=own_seed)
        x, values = examples[spread(len(examples), num_examples)]
        chosen = torch.linspace(0, len(x) - 1, num_samples).long()
        self._cond = Conditioning({name: column[chosen] for name, column in values.items()})
        self._reference = _mean_levels(x, representation)

    def __call__(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> dict[str, float]:
        """`spectral_distance` in dB, on every process; without the VAE that decodes, a warning and nothing.

        `poll` is called before each batch and may raise. Global random state and the model's mode are left alone.
        """
        numbers = own_numbers(self._count, accelerator)
        shape = self._autoencoder.latent_shape if self._autoencoder else self._shape
        with in_eval_mode(model):
            part = draw(
                model, self._method, self._cond, numbers, accelerator, shape=shape, sampling=self._sampling, poll=poll
            )
        try:
            with self._autoencoder.borrowed() if self._autoencoder else nullcontext():
                samples = gathered(
                    numbers, part, accelerator, count=self._count, shape=self._shape, autoencoder=self._autoencoder
                )
        except UserError as error:  # which all processes raise
            accelerator.print(f"warning: no spectral_distance: {error}")
            return {}
        difference = _mean_levels(samples, self._representation) - self._reference
        return {"spectral_distance": difference.square().mean().sqrt().item()}


def _mean_levels(x: Tensor, representation: Representation) -> Tensor:
    """Levels of the mean spectrum of examples (N, C, H, W) from 1 to 45 Hz: (F,) float64, dB re 1 µV."""
    total: Tensor | float = 0.0
    for part in x.split(AT_A_TIME):
        found = representation.mean_spectrum(part)
        inside = (found[0] >= LOWEST) & (found[0] <= HIGHEST) if found else torch.zeros(0)
        if found is None or not inside.any():
            raise UserError(
                "[training.validation] num_generated: these examples have no spectrum from "
                f"{LOWEST:g} to {HIGHEST:g} Hz to compare; expected 0"
            )
        total = total + len(part) * found[1][inside].double()
    assert isinstance(total, Tensor)
    return total / len(x)
