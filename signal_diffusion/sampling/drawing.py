"""Drawing samples from a trained model, in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor

from signal_diffusion.diffusion.generation import OnStep
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Conditioning
from signal_diffusion.randomness import Purpose, generator_for
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained

__all__ = [
    "BatchSize",
    "Evaluations",
    "columns_of",
    "counted",
    "draw",
    "rounded_up",
    "trajectory",
]

VALUES_AT_ONCE = {"cuda": 2**24, "cpu": 2**20}
"""Of the samples of a batch, where its size is not given."""
MOST_AT_ONCE = {"cuda": 256, "cpu": 64}
Drawn = TypeVar("Drawn")


def draw(
    trained: Trained,
    request: Request,
    *,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
) -> Samples:
    """Draw what is asked for, on the accelerator that is there.

    A sample depends on the seed, the number of its noise and its conditions alone, and by rounding on `batch_size`,
    which is that of every batch: one that is short is filled up with copies of the last sample.

    Parameters
    ----------
    batch_size
        Samples at a time; None = all at once.
    on_step
        As in `SampleGenerator.generate`.
    """
    generator, autoencoder = trained.generator, trained.autoencoder
    count, size = len(request), batch_size or max(1, len(request))
    rows = [min(row, count - 1) for row in range(rounded_up(count, size))]
    tensors = generator.generate(
        trained.model.to(generator.device),
        request.cond[torch.tensor(rows, dtype=torch.int64)],
        [request.noise[row] for row in rows],
        guide=trained.guide.to(generator.device) if trained.guide else None,
        batch_size=size,
        on_step=on_step,
    )
    latents = tensors[:count] if autoencoder else None
    if autoencoder:
        decode = autoencoder.to(generator.device).decode
        tensors = torch.cat([decode(part) for part in tensors.split(size)])
    tensors = tensors[:count]
    return Samples(
        tensors=tensors,
        latents=latents,
        signals=_signals(trained, tensors, request),
        columns=columns_of(trained.attributes, request.cond),
        card=trained.card,
        representation=trained.representation,
    )


def trajectory(trained: Trained, request: Request) -> list[tuple[Tensor, Tensor]]:
    """Where the samples were when a step began, x_t, and what the network took x0 for there; the samples at the end.

    (N, C, H, W) each, on the CPU. Of more than 50 steps, 49 evenly among them. What a model of latents works on is
    decoded, of 12 of its steps: noise looks like what the decoder makes of noise.
    """
    generator = trained.generator
    recorder = generator.recorder(request.noise)
    samples = draw(trained, request, on_step=recorder)
    frames = [(generator.decode(xt), generator.decode(x0)) for xt, x0 in recorder.frames]
    return [*frames, (samples.tensors, samples.tensors)]


def rounded_up(count: int, size: int) -> int:
    """Samples in so many whole batches as `count` takes."""
    return math.ceil(count / size) * size


def columns_of(attributes: tuple[Attribute, ...], cond: Conditioning) -> dict[str, np.ndarray]:
    """What samples are asked to be, by attribute (N,), with "" or NaN for the null."""
    return {each.name: _named(each, cond.attributes[each.name]) for each in attributes}


class BatchSize:
    """How many samples are drawn at a time: as many as are asked for, or as fit.

    Without a number, it begins with what should fit, in even shares, and is halved for good whenever memory runs out.
    """

    def __init__(self, asked: int | None, *, shape: tuple[int, ...], device: torch.device | str, most: int) -> None:
        self._is_fixed = asked is not None
        kind = "cuda" if torch.device(device).type == "cuda" else "cpu"
        fitting = max(1, min(MOST_AT_ONCE[kind], VALUES_AT_ONCE[kind] // math.prod(shape), most))
        self.size = asked or math.ceil(most / math.ceil(most / fitting))

    def fit(self, draw: Callable[..., Drawn]) -> Drawn:
        """What `draw(batch_size=…)` makes at the first size that fits.

        Raises
        ------
        UserError
            Where none does.
        """
        while True:
            try:
                return draw(batch_size=self.size)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                if self._is_fixed or self.size == 1:
                    advice = "use a smaller one, or auto" if self._is_fixed else "use another device"
                    raise UserError(f"--batch-size {self.size}: there is not enough memory; {advice}") from None
            # Not while the exception is handled: it holds on to what has to be let go of.
            clear_device_cache(garbage_collection=True)
            self.size //= 2


@dataclass
class Evaluations:
    """How often networks were asked about a sample, all samples together."""

    count: int = 0


@contextmanager
def counted(trained: Trained) -> Iterator[Evaluations]:
    """Count evaluations of the model and of its guide."""
    found = Evaluations()

    def count(module: Any, arguments: tuple[Any, ...]) -> None:
        found.count += len(arguments[0])

    networks = [trained.model] + ([trained.guide] if trained.guide else [])
    handles = [network.register_forward_pre_hook(count) for network in networks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _signals(trained: Trained, tensors: Tensor, request: Request) -> Tensor | None:
    """Turn tensors (N, C, H, W) into µV (N, …); None where they hold no signals."""
    if trained.representation.inverse == "none":
        return None
    # One by one, so that what a representation draws (a phase) depends on (seed, i) alone too.
    seed = trained.sampling.seed
    return torch.stack(
        [
            trained.representation.to_signal(tensor, generator_for(Purpose.SIGNAL, seed, i))
            for i, tensor in zip(request.phase or request.noise, tensors, strict=True)
        ]
    )


def _named(attribute: Attribute, values: Tensor) -> np.ndarray:
    if isinstance(attribute, Categorical):
        return np.array(["" if index < 0 else attribute.names[index] for index in values.tolist()])
    if isinstance(attribute, Caption):
        return np.array(["" if index < 0 else attribute.texts[index] for index in values.tolist()])
    return values.numpy()
