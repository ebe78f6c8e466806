"""The spectral distance of generated samples from validation examples.

It is a log-spectral distance that every representation with a spectrum has: levels in dB are averaged over the
examples, electrodes and times of each side (`Representation.mean_spectrum`), and the distance is the root mean square
difference of the two spectra over the frequencies from 1 to 45 Hz. It needs no phase, and ignores differences between
electrodes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, derived_seed
from signal_diffusion.training.sampling import gathered, own_numbers
from signal_diffusion.training.validation import in_eval_mode

__all__ = ["GeneratedSamples"]

LOWEST, HIGHEST = 1.0, 45.0
"""Hz, both included."""
BATCH = 64
"""Examples whose spectra are computed together."""


class GeneratedSamples:
    """Generates the same number of samples each time, from the same noise, with conditions of validation examples.

    Sample i depends only on the weights and (seed, i), not on the number of processes; its noise differs from that of
    the previews and of later sampling. The reference is the examples that the validation loss is computed on.
    """

    def __init__(
        self,
        examples: Examples,
        generator: SampleGenerator,
        representation: Representation,
        *,
        table: schema.Validation,
        guidance_scale: float,
        seed: int,
    ) -> None:
        """Measure the validation `examples`, which are data (C, H, W) even if the model works on latents.

        Raises
        ------
        UserError
            If they have no spectrum from 1 to 45 Hz.
        """
        self.examples, self.representation = examples, representation
        self.count = table.num_generated
        """Number of samples."""
        self.seed = derived_seed(Purpose.COMPARISON, seed)
        self._generator = generator.without_guide(guidance_scale=guidance_scale, seed=self.seed)
        self.rows = evenly_spaced(len(examples), table.num_examples)
        """Numbers of the examples of the reference."""
        x, values = examples[self.rows]
        chosen = torch.linspace(0, len(x) - 1, self.count).long()
        self._cond = Conditioning({name: column[chosen] for name, column in values.items()})
        self._reference = _mean_levels(x, representation)

    def __call__(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> Tensor:
        """The samples of a model as examples (N, C, H, W), on every process.

        `poll` is called before each evaluation of the network and may raise. Neither the global random state nor the
        model's mode changes.

        Raises
        ------
        UserError
            On all processes, if the VAE cannot be reloaded.
        """
        own = own_numbers(self.count, accelerator)
        with in_eval_mode(model):
            samples = self._generator.generate(model, self._cond[torch.tensor(own)], own, on_evaluation=poll)
        with self._generator.decoder_in_memory():
            return gathered(self._generator, own, samples, accelerator, count=self.count)

    def spectral_distance(self, examples: Tensor) -> float:
        """The distance of examples (N, C, H, W) from the reference, in dB."""
        difference = _mean_levels(examples, self.representation) - self._reference
        return difference.square().mean().sqrt().item()


def _mean_levels(x: Tensor, representation: Representation) -> Tensor:
    """Levels of the mean spectrum of examples (N, C, H, W) from 1 to 45 Hz: (F,) float64, dB re 1 µV."""
    total: Tensor | float = 0.0
    for part in x.split(BATCH):
        spectrum = representation.mean_spectrum(part)
        inside = (spectrum[0] >= LOWEST) & (spectrum[0] <= HIGHEST) if spectrum else torch.zeros(0)
        if spectrum is None or not inside.any():
            raise UserError(
                "[training.validation] num_generated: these examples have no spectrum from "
                f"{LOWEST:g} to {HIGHEST:g} Hz to compare; expected 0"
            )
        total = total + len(part) * spectrum[1][inside].double()
    assert isinstance(total, Tensor)
    return total / len(x)
