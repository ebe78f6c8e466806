"""How samples come out of noise, step by step."""

from __future__ import annotations

from torch import Tensor

from signal_diffusion.data.loaders import spread
from signal_diffusion.diffusion.generation import MOST_DECODED, MOST_FRAMES, Beginnings, first_noise
from signal_diffusion.sampling.drawing import draw, latent_or_data_shape
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.trained import Trained

__all__ = ["trajectory"]


def trajectory(trained: Trained, request: Request) -> list[tuple[Tensor, Tensor]]:
    """Where the samples were when a step began, x_t, and what the network took x0 for there; the samples at the end.

    (N, C, H, W) each, on the CPU. Of more than 50 steps, 49 evenly among them. What a model of latents works on is
    decoded, of 12 of its steps: noise looks like what the decoder makes of noise.
    """
    most = MOST_DECODED if trained.autoencoder else MOST_FRAMES
    noise = first_noise(trained.method, trained.sampling.seed, request.noise, latent_or_data_shape(trained))
    beginnings = Beginnings(noise, spread(trained.sampling.steps, most - 1))
    samples = draw(trained, request, on_step=beginnings)
    frames = beginnings.frames
    if trained.autoencoder:
        decode = trained.autoencoder.decode
        frames = [(decode(xt), decode(x0)) for xt, x0 in frames]
    return [*frames, (samples.tensors, samples.tensors)]
