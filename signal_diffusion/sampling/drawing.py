"""Generate samples with a trained model, in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.diffusion.generation import OnStep
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Conditioning
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained

__all__ = [
    "Evaluations",
    "count_evaluations",
    "generate_samples",
    "requested_columns",
    "rounded_up",
    "trajectory_frames",
]


def generate_samples(
    trained: Trained,
    request: Request,
    *,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
) -> Samples:
    """Generate the requested samples on the available accelerator.

    A sample depends only on the seed, the number of its noise and its conditions, and by rounding on `batch_size`. All
    batches have this size: the last one is filled up with copies of the last sample.

    Parameters
    ----------
    batch_size
        Samples per batch; None = all in one batch.
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
        columns=requested_columns(trained.attributes, request.cond),
        card=trained.card,
        representation=trained.representation,
    )


def trajectory_frames(trained: Trained, request: Request) -> list[tuple[Tensor, Tensor]]:
    """Frames of an animation: x_t at the start of a step and the network's x0 there; both are the samples at the end.

    (N, C, H, W) each, on the CPU. Of more than 49 steps, 49 evenly spaced ones. Those of a latent model are decoded,
    for up to 12 steps; its first frame shows decoded noise.
    """
    generator = trained.generator
    recorder = generator.recorder(request.noise)
    samples = generate_samples(trained, request, on_step=recorder)
    frames = [(generator.decode(xt), generator.decode(x0)) for xt, x0 in recorder.frames]
    return [*frames, (samples.tensors, samples.tensors)]


def rounded_up(count: int, size: int) -> int:
    """`count` rounded up to a multiple of the batch size `size`."""
    return math.ceil(count / size) * size


def requested_columns(attributes: tuple[Attribute, ...], cond: Conditioning) -> dict[str, np.ndarray]:
    """The requested conditions by attribute, (N,) each, with "" or NaN for attributes left open."""
    return {each.name: _decoded(each, cond.attributes[each.name]) for each in attributes}


@dataclass
class Evaluations:
    """Number of network evaluations, summed over samples."""

    count: int = 0


@contextmanager
def count_evaluations(trained: Trained) -> Iterator[Evaluations]:
    """Count the evaluations of the model and of its guide within the context."""
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
    """Convert tensors (N, C, H, W) to signals (N, …) in µV; None if the representation has no signals."""
    if trained.representation.inverse == "none":
        return None
    return trained.representation.to_signals(tensors, trained.sampling.seed, request.phase or request.noise)


def _decoded(attribute: Attribute, values: Tensor) -> np.ndarray:
    if isinstance(attribute, Categorical):
        return np.array(["" if index < 0 else attribute.names[index] for index in values.tolist()])
    if isinstance(attribute, Caption):
        return np.array(["" if index < 0 else attribute.texts[index] for index in values.tolist()])
    return values.numpy()
