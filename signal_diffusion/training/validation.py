"""The validation loss, of always the same (example, time, noise) triples.

So its curve moves for one reason alone, and does not depend on the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, generator_for, noise_for
from signal_diffusion.training.latents import Encoding

__all__ = ["Validation", "in_eval_mode", "of_each"]

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
        self._indices = spread(len(examples), num_examples)
        count = len(self._indices)
        strata = torch.randperm(count, generator=generator_for(Purpose.VALIDATION, seed))
        self._times = method.time_at((strata + 0.5) / count).float()

    @torch.no_grad()
    def __call__(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> dict[str, float]:
        """The mean loss, in total and per quarter of time, on every process.

        `poll` is called before each batch and may raise. Global random state and the model's mode are left alone.
        """
        with in_eval_mode(model):
            losses = of_each(
                len(self._indices), self._batch_size, accelerator, poll, partial(self._batch, model, accelerator.device)
            )
        means = {"loss": losses.mean().item()}
        quarter = (self._times * QUARTERS).long().clamp(max=QUARTERS - 1)
        for index in range(QUARTERS):
            if (mask := quarter == index).any():
                means[f"loss_t{index / QUARTERS:.2f}-{(index + 1) / QUARTERS:.2f}"] = losses[mask].mean().item()
        return means

    def _batch(self, model: nn.Module, device: torch.device, positions: np.ndarray) -> Tensor:
        """The loss of each example (B,)."""
        x, attributes = self._examples[[self._indices[position] for position in positions]]
        generators = [generator_for(Purpose.VALIDATION, self._seed, int(i)) for i in positions]
        x = x.to(device)
        x0 = (self._encoding(x) if self._encoding else x) / self._method.data_std
        noise = noise_for(generators, tuple(x0.shape[1:])).to(device)
        t = self._times[torch.from_numpy(positions)].to(device)
        prediction = model(self._method.add_noise(x0, noise, t), t, Conditioning(attributes).to(device))
        return self._method.loss(prediction, x0, noise, t)


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Have a model in eval mode for a while, and in the mode that it was in after that."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def of_each(
    count: int,
    batch_size: int,
    accelerator: Accelerator,
    poll: Callable[[], None],
    batch: Callable[[np.ndarray], Tensor],
) -> Tensor:
    """What `batch` says of positions 0 to `count` - 1, (count, …) float64 on the CPU, in their order.

    On every process; `poll` is called before each batch, equally often on all of them, and may raise.
    """
    share = -(-count // accelerator.num_processes)  # the last process repeats, and is cut off
    own = np.minimum(np.arange(share) + accelerator.process_index * share, count - 1)
    parts = []
    for start in range(0, share, batch_size):
        poll()
        parts.append(batch(own[start : start + batch_size]))
    return accelerator.gather(torch.cat(parts)).cpu()[:count].double()
