"""Samplers: from noise to data in so many calls of a network, for every method and prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from signal_diffusion.diffusion.methods import Method
from signal_diffusion.randomness import noise_for

__all__ = ["SAMPLERS", "Denoise", "Sampler", "ddim", "euler"]

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t (B,)) → prediction, guidance folded in."""


class Sampler(Protocol):
    """Turns `noise` (B, …) into x0 of the same shape in float32.

    `generators`, one per example, are what a stochastic sampler draws from, so that an example does not
    depend on those around it. `on_step(i)` is called after step i, counted from 0.
    """

    def __call__(
        self,
        denoise: Denoise,
        method: Method,
        noise: Tensor,
        steps: int,
        generators: Sequence[torch.Generator] | None = None,
        *,
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Take `steps` steps from t = 1 to 0, with one call of `denoise` each."""


@torch.no_grad()
def ddim(
    denoise: Denoise,
    method: Method,
    noise: Tensor,
    steps: int,
    generators: Sequence[torch.Generator] | None = None,
    *,
    eta: float = 0.0,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """DDIM, from deterministic (η = 0) to ancestral (η = 1).

    x_s = α_s·x0 + √(σ_s² − τ²)·ε + τ·z with τ = η·(σ_s/σ_t)·√(σ_t² − (σ_s·α_t/α_s)²), z ~ N(0, 1)

    Song et al., https://arxiv.org/abs/2010.02502, equation 12, for any α and σ.
    """
    if eta and generators is None:
        raise ValueError("ddim with eta above 0 draws noise: expected one generator per example")
    x = noise.float()
    times = method.time_grid(steps)
    alphas, sigmas = (values.tolist() for values in method.schedule(times))
    for i, t in enumerate(times[:-1].tolist()):
        alpha_s, sigma_t, sigma_s = alphas[i + 1], sigmas[i], sigmas[i + 1]
        t_batch = torch.full((len(x),), t, device=x.device)
        x0, eps = method.split(x, denoise(x, t_batch), t_batch)
        tau = eta * sigma_s / sigma_t * max(sigma_t**2 - (sigma_s * alphas[i] / alpha_s) ** 2, 0.0) ** 0.5
        x = alpha_s * x0 + (sigma_s**2 - tau**2) ** 0.5 * eps
        if generators is not None and tau:
            x = x + tau * noise_for(generators, x.shape[1:]).to(x)
        if on_step is not None:
            on_step(i)
    return x


def euler(
    denoise: Denoise,
    method: Method,
    noise: Tensor,
    steps: int,
    generators: Sequence[torch.Generator] | None = None,
    *,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """First-order steps of the probability-flow ODE, x_s = α_s·x0 + σ_s·ε.

    This is Euler's step of x/α over σ/α, the form in which the ODE has no linear part, written so that α may
    be 0; on the straight path of a rectified flow it equals Euler's step of x over t, x_t + (s − t)·(ε − x0).
    It is DDIM with η = 0 (https://arxiv.org/abs/2010.02502, section 4.3) under the name flows give it.
    """
    return ddim(denoise, method, noise, steps, generators, on_step=on_step)


SAMPLERS: dict[str, Sampler] = {"euler": euler, "ddim": ddim}
