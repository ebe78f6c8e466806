"""Methods: a schedule, a prediction linear in (x0, ε), a distribution of training times, and a loss weight.

With x_t = α·x0 + σ·ε and a prediction p = a·x0 + b·ε, everything follows from (α, σ, a, b) and Δ = α·b − σ·a:

    x0 = (b·x_t − σ·p)/Δ,   ε = (α·p − a·x_t)/Δ,   ‖δp‖² = (Δ/σ)²·‖δx0‖²

so one target, one split and one min-SNR weight serve every prediction of every method. The error may also be taken in
another quantity q of determinant Δ', ‖δq‖² = (Δ'/Δ)²·‖δp‖², which is a weight too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.diffusion.normalisation import UNCHANGED, Normalisation
from signal_diffusion.diffusion.schedules import BetaSchedule, LinearSchedule, Schedule
from signal_diffusion.errors import UserError
from signal_diffusion.known import Known

__all__ = ["LOSSES", "METHODS", "PREDICTIONS", "TIME_SAMPLINGS", "Method", "ddpm", "method_of", "rectified_flow"]

PREDICTIONS: dict[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "epsilon": lambda alpha, sigma: (torch.zeros_like(alpha), torch.ones_like(sigma)),
    "sample": lambda alpha, sigma: (torch.ones_like(alpha), torch.zeros_like(sigma)),
    "v": lambda alpha, sigma: (-sigma, alpha),
    "velocity": lambda alpha, sigma: (-torch.ones_like(alpha), torch.ones_like(sigma)),
}
"""(α, σ) → (a, b) of the prediction a·x0 + b·ε. v: https://arxiv.org/abs/2202.00512; velocity: ε − x0."""

LOSSES = {"velocity": "velocity", "x0": "sample", "epsilon": "epsilon"}
"""Quantities in which the error may be taken, beside the prediction itself: name → prediction."""

LEAST_DIVISOR = 0.05
"""Floor of |Δ| as a divisor in the weight of an error in another quantity: the error in x0 or ε that a prediction
implies diverges at one end of time, as 1/σ or 1/α. The clamp of JiT (https://arxiv.org/abs/2511.13720)."""

SMALLEST = 1e-6
"""Floor of α and σ as divisors: below the α = 5e-5 at which a cosine schedule of 1000 steps ends."""

TERMINAL_SNR = 1e-2
"""Floor of the SNR in the min-SNR weight of a method that ends at zero SNR."""


@dataclass(frozen=True)
class Method:
    """A diffusion method. Times have shape (B,), data and noise (B, …); it computes in float32 or better."""

    schedule: Schedule
    """t → (α, σ)."""
    prediction: str
    """What the network returns: one of PREDICTIONS."""
    time_at: Callable[[Tensor], Tensor]
    """Inverse of the distribution function of the training times: uniform u ∈ [0, 1) → t."""
    snr_gamma: float | None = None
    """γ of the min-SNR weight, > 0; None weighs all times equally. Only with `loss_in` "prediction"."""
    loss_in: str = "prediction"
    """What the squared error is taken in: "prediction", or one of LOSSES."""
    normalisation: Normalisation = UNCHANGED
    """Turns examples into x0, and back."""

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise UserError(f"prediction {self.prediction!r} is unknown: expected one of {', '.join(PREDICTIONS)}")
        if self.snr_gamma is not None and not self.snr_gamma > 0:
            raise UserError(f"snr_gamma = {self.snr_gamma}: expected a number above 0")
        if self.loss_in != "prediction" and self.loss_in not in LOSSES:
            expected = ", ".join(["prediction", *LOSSES])
            raise UserError(f"loss {self.loss_in!r} is unknown: expected one of {expected}")
        discrete = self.schedule.num_timesteps is not None
        if self.prediction == "epsilon" and discrete and self.schedule.terminal_alpha == 0:
            raise UserError(
                "prediction 'epsilon' carries no information about the data at t = 1, a time that zero_terminal_snr "
                "trains: choose 'v', 'velocity' or 'sample'"
            )

    def sample_time(self, n: int, generator: torch.Generator, *, index: int = 0, count: int = 1) -> Tensor:
        """n training times, stratified over the batches of a step, (n,) float32 on the generator's device.

        t = F⁻¹((i·R + r + U_i)/(n·R)) for batch `index` = r of `count` = R, U uniform. The strata i are assigned in
        random order, so that an example's time does not depend on its index in the batch.
        """
        device = generator.device
        stratum = torch.randperm(n, generator=generator, device=device) * count + index
        u = (stratum + torch.rand(n, generator=generator, device=device)) / (n * count)
        return self.time_at(u)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = α·x0 + σ·ε."""
        alpha, sigma = self._at(t, x0)
        return alpha * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network should return for x_t: a·x0 + b·ε."""
        a, b = PREDICTIONS[self.prediction](*self._at(t, x0))
        return a * x0 + b * noise

    def split(self, xt: Tensor, prediction: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The x0 and ε that a prediction implies: the inverse of `add_noise` and `target`.

        α and σ are clamped to at least 1e-6. So at t = 0 `sample` returns its x0 and ε = 1e6·(x_t − x0), finite
        but meaningless; at t = 1 `epsilon` multiplies errors by 1/α; `v` and `velocity` are well posed.
        """
        alpha, sigma, a, b, delta = self._solved(t, xt)
        xt, prediction = xt.to(alpha.dtype), prediction.to(alpha.dtype)
        return (b * xt - sigma * prediction) / delta, (alpha * prediction - a * xt) / delta

    def weight(self, t: Tensor) -> Tensor:
        """Weight of the squared error of the prediction, (B,): 1, min-SNR, or that of an error in another quantity.

        With the error in q it is (Δ'/Δ)², |Δ| clamped to at least 0.05. For velocity as predicted from x0 on a flow,
        that is 1/max(t, 0.05)²; for the velocity of a network that predicts the velocity, 1.

        Min-SNR weighs ‖δx0‖² by min(SNR, γ), which is min(SNR, γ)·σ²/Δ² on ‖δp‖²: min(SNR, γ)/SNR for
        epsilon, min(SNR, γ) for sample, min(SNR, γ)/(SNR + 1) for v and min(SNR, γ)/(√SNR + 1)² for velocity.
        If a schedule ends at zero SNR, the SNR is clamped to at least 0.01: otherwise the step at t = 1, which
        determines the mean of a sample, would not be learnt.

        Hang et al., https://arxiv.org/abs/2303.09556
        """
        if self.loss_in == "prediction" and self.snr_gamma is None:
            return torch.ones_like(t, dtype=torch.promote_types(t.dtype, torch.float32))
        alpha, sigma, _, _, delta = self._solved(t, t)
        if self.loss_in != "prediction":
            a, b = PREDICTIONS[LOSSES[self.loss_in]](alpha, sigma)
            return ((alpha * b - sigma * a) / delta.abs().clamp(min=LEAST_DIVISOR)).square()
        least = TERMINAL_SNR if self.schedule.terminal_alpha == 0 else 0.0
        return (alpha / sigma).square().clamp(least, self.snr_gamma) * (sigma / delta).square()

    def loss(self, prediction: Tensor, x0: Tensor, noise: Tensor, t: Tensor, known: Known | None = None) -> Tensor:
        """Weighted mean squared error of each example, (B,); over the values that are not given, if some are."""
        error = (prediction.float() - self.target(x0, noise, t)).square()
        if known is None:
            return self.weight(t) * error.flatten(1).mean(1)
        missing = ~known.mask
        return self.weight(t) * (error * missing).flatten(1).sum(1) / missing.flatten(1).sum(1).clamp(min=1)

    def error_gain(self, t: Tensor) -> Tensor:
        """Error of x0 per error of the prediction, |σ/Δ|, (B,)."""
        _, sigma, _, _, delta = self._solved(t, t)
        return (sigma / delta).abs()

    def _at(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ, shaped to multiply `like`."""
        alpha, sigma = self.schedule(t)
        shape = (-1,) + (1,) * (like.ndim - 1)
        return alpha.view(shape), sigma.view(shape)

    def _solved(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """α, σ, a, b and the determinant Δ = α·b − σ·a, with α and σ clamped above zero."""
        alpha, sigma = (value.clamp(min=SMALLEST) for value in self._at(t, like))
        a, b = PREDICTIONS[self.prediction](alpha, sigma)
        return alpha, sigma, a, b, alpha * b - sigma * a


@dataclass(frozen=True)
class _Grid:
    """t uniform on 1/T, 2/T … 1."""

    num_timesteps: int

    def __call__(self, u: Tensor) -> Tensor:
        step = (u * self.num_timesteps).floor().clamp(max=self.num_timesteps - 1)
        return (step + 1) / self.num_timesteps


@dataclass(frozen=True)
class _Uniform:
    """t uniform on [0, 1]."""

    def __call__(self, u: Tensor) -> Tensor:
        return u


@dataclass(frozen=True)
class _LogitNormal:
    """logit t normal (Esser et al., https://arxiv.org/abs/2403.03206)."""

    mean: float
    std: float

    def __call__(self, u: Tensor) -> Tensor:
        eps = torch.finfo(u.dtype).eps
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.clamp(eps, 1 - eps)))


TIME_SAMPLINGS: dict[str, Callable[[float, float], Callable[[Tensor], Tensor]]] = {
    "uniform": lambda mean, std: _Uniform(),
    "logit_normal": _LogitNormal,
}


def ddpm(
    *,
    prediction: str = "epsilon",
    num_timesteps: int = 1000,
    beta_schedule: str = "cosine",
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    snr_gamma: float | None = None,
    zero_terminal_snr: bool = False,
    loss: str = "prediction",
) -> Method:
    """Denoising diffusion on T discrete steps (Ho et al., https://arxiv.org/abs/2006.11239)."""
    schedule = BetaSchedule(
        name=beta_schedule,
        num_timesteps=num_timesteps,
        beta_start=beta_start,
        beta_end=beta_end,
        zero_terminal_snr=zero_terminal_snr,
    )
    return Method(schedule, prediction, _Grid(num_timesteps), snr_gamma, loss)


def rectified_flow(
    *,
    prediction: str = "velocity",
    time_sampling: str = "logit_normal",
    logit_mean: float = 0.0,
    logit_std: float = 1.0,
    snr_gamma: float | None = None,
    loss: str = "prediction",
) -> Method:
    """The straight flow from noise to data (Liu et al., https://arxiv.org/abs/2209.03003)."""
    if time_sampling not in TIME_SAMPLINGS:
        raise UserError(f"time_sampling {time_sampling!r} is unknown: expected one of {', '.join(TIME_SAMPLINGS)}")
    if not logit_std > 0:
        raise UserError(f"logit_std = {logit_std}: expected a number above 0")
    return Method(LinearSchedule(), prediction, TIME_SAMPLINGS[time_sampling](logit_mean, logit_std), snr_gamma, loss)


METHODS: dict[str, Callable[..., Method]] = {"ddpm": ddpm, "rectified_flow": rectified_flow}


def method_of(diffusion: schema.Diffusion) -> Method:
    """The method that [model.diffusion] describes."""
    build = METHODS[diffusion.method]
    options = {name: getattr(diffusion, name) for name in inspect.signature(build).parameters}
    if diffusion.prediction is None:  # the method's own default
        del options["prediction"]
    return build(**options)
