"""The validation loss, on a fixed set of (example, time, noise) triples.

Its curve therefore depends only on the weights, and not on the batch size or the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.sharding import free_gathered
from signal_diffusion.randomness import Purpose, generator_for, noise_for
from signal_diffusion.training.by_montage import loss_of_each, without_absent
from signal_diffusion.training.latents import Encoding
from signal_diffusion.training.masking import Masking

__all__ = ["Validation", "for_each_example", "in_eval_mode", "validation_of"]

QUARTERS = 4


class Validation:
    """Validation loss of a fixed set of examples, each with its own noise and time.

    The times are the midpoints of equally probable strata of the training density, assigned in an order that depends
    on the seed; the noise and the mask of example i depend on (seed, i). Latents are the posterior means. Examples may
    lack some of the electrodes at `places`, (H, 3), if these are given.
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
        masking: Masking | None = None,
        places: Tensor | None = None,
    ) -> None:
        self._masking, self._places = masking, places
        self._examples, self._method, self._batch_size, self._seed = examples, method, batch_size, seed
        self._encoding = encoding
        self._indices = evenly_spaced(len(examples), num_examples)
        count = len(self._indices)
        strata = torch.randperm(count, generator=generator_for(Purpose.VALIDATION, seed))
        self._times = method.time_at((strata + 0.5) / count).float()

    @torch.no_grad()
    def __call__(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> dict[str, float]:
        """The mean loss, in total and per quarter of time, and the same error in x0, on every process.

        `x0_loss` compares networks whatever they predict, and whatever weighs their loss.
        `poll` is called before each batch and may raise. Neither the global random state nor the model's mode changes.
        """
        with in_eval_mode(model):
            losses = for_each_example(
                len(self._indices), self._batch_size, accelerator, poll, partial(self._batch, model, accelerator.device)
            )
        means = {"loss": losses.mean().item()}
        quarter = (self._times * QUARTERS).long().clamp(max=QUARTERS - 1)
        for index in range(QUARTERS):
            if (mask := quarter == index).any():
                means[f"loss_t{index / QUARTERS:.2f}-{(index + 1) / QUARTERS:.2f}"] = losses[mask].mean().item()
        per_loss = self._method.error_gain(self._times).square() / self._method.weight(self._times)
        means["x0_loss"] = (losses * per_loss.double()).mean().item()
        return means

    def _batch(self, model: nn.Module, device: torch.device, positions: np.ndarray) -> Tensor:
        """The loss of each example (B,)."""
        x, attributes = self._examples[[self._indices[position] for position in positions]]
        generators = [generator_for(Purpose.VALIDATION, self._seed, int(i)) for i in positions]
        x, present = x.to(device), None
        if self._places is not None:
            x, present = without_absent(x)
        x0 = self._method.normalisation.normalised(self._encoding(x) if self._encoding else x)
        noise, known = noise_for(generators, tuple(x0.shape[1:])).to(device), None
        if self._masking:
            x0, known = self._masking.of_each(x0, generators, present)
        t = self._times[torch.from_numpy(positions)].to(device)
        cond = Conditioning(attributes).to(device).with_known(known)
        return loss_of_each(model, self._method, x0, noise, t, cond, places=self._places, present=present)


def validation_of(
    experiment: schema.Experiment,
    held_out: Examples,
    method: Method,
    encoding: Encoding | None,
    masking: Masking | None,
    places: Tensor | None,
) -> Validation:
    """The validation of an experiment on examples of its validation split, or on their latents."""
    table = experiment.training.validation
    return Validation(
        held_out,
        method,
        num_examples=table.num_examples,
        batch_size=table.batch_size or experiment.data.loading.batch_size,
        seed=experiment.compute.seed,
        encoding=encoding,
        masking=masking,
        places=places,
    )


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode inside this context, and restore its mode afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
        free_gathered(model)


def for_each_example(
    count: int,
    batch_size: int,
    accelerator: Accelerator,
    poll: Callable[[], None],
    batch: Callable[[np.ndarray], Tensor],
) -> Tensor:
    """Evaluate `batch` on positions 0 to `count` - 1, shared among all processes: (count, …) float64 on the CPU.

    Every process gets all values. `poll` is called before each batch, equally often on all processes, and may raise.
    """
    share = -(-count // accelerator.num_processes)  # the last process repeats its last example; cut off below
    own = np.minimum(np.arange(share) + accelerator.process_index * share, count - 1)
    parts = []
    for start in range(0, share, batch_size):
        poll()
        parts.append(batch(own[start : start + batch_size]))
    return accelerator.gather(torch.cat(parts)).cpu()[:count].double()
