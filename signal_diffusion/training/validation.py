"""The validation loss, of always the same (example, time, noise) triples.

So its curve moves for one reason alone, and does not depend on the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.latents import Encoding
from signal_diffusion.models.conditioning import Conditioning
from signal_diffusion.randomness import Purpose, generator_for, noise_for

__all__ = ["Validation"]

QUARTERS = 4


class Validation:
    """A fixed set of examples of the validation split, each with its noise and its time.

    The times are one from the middle of each stratum of the training density, dealt out in an order that depends on
    the seed; the noise of example i depends on (seed, i). Latents are the means of their posteriors.
    """

    def __init__(
        self,
        examples: Examples,
        method: Method,
        *,
        num_examples: int,
        batch_size: int,
        seed: int,
        encoding: Encoding | None,
    ) -> None:
        self._examples, self._method, self._batch_size, self._seed = examples, method, batch_size, seed
        self._encoding = encoding
        self._indices = spread(len(examples), num_examples) or list(range(len(examples)))
        count = len(self._indices)
        strata = torch.randperm(count, generator=generator_for(Purpose.VALIDATION, seed))
        self._times = method.time_at((strata + 0.5) / count).float()

    @torch.no_grad()
    def __call__(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> dict[str, float]:
        """The mean loss, in total and per quarter of time, on every process.

        `poll` is called before each batch and may raise. Global random state and the model's mode are left alone.
        """
        was_training = model.training
        model.eval()
        try:
            losses = self._losses(model, accelerator, poll)
        finally:
            model.train(was_training)
        means = {"loss": losses.mean().item()}
        quarter = (self._times * QUARTERS).long().clamp(max=QUARTERS - 1)
        for index in range(QUARTERS):
            if (mask := quarter == index).any():
                means[f"loss_t{index / QUARTERS:.2f}-{(index + 1) / QUARTERS:.2f}"] = losses[mask].mean().item()
        return means

    def _losses(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> Tensor:
        """The loss of each example, (N,) float64, in their order."""
        share = -(-len(self._indices) // accelerator.num_processes)  # the last process repeats, and is cut off
        own = np.arange(share) + accelerator.process_index * share
        own = np.minimum(own, len(self._indices) - 1)
        parts = []
        for start in range(0, share, self._batch_size):
            poll()
            parts.append(self._batch(model, accelerator, own[start : start + self._batch_size]))
        return accelerator.gather(torch.cat(parts)).cpu()[: len(self._indices)].double()

    def _batch(self, model: nn.Module, accelerator: Accelerator, positions: np.ndarray) -> Tensor:
        x, attributes = self._examples[[self._indices[position] for position in positions]]
        generators = [generator_for(Purpose.VALIDATION, self._seed, int(i)) for i in positions]
        device = accelerator.device
        x = x.to(device)
        if self._encoding:
            x = self._encoding(x)
        noise = noise_for(generators, tuple(x.shape[1:])).to(device)
        t = self._times[torch.from_numpy(positions)].to(device)
        prediction = model(self._method.add_noise(x, noise, t), t, Conditioning(attributes).to(device))
        return self._method.loss(prediction, x, noise, t)
