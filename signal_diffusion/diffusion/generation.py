"""Generate samples with a network under conditions, batch by batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.diffusion.given import Replacement, projected, with_given
from signal_diffusion.diffusion.guidance import Droppable, Network, guided, rectified_cfg_plus_plus, unguided
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.diffusion.normalisation import Normalisation
from signal_diffusion.diffusion.samplers import SAMPLERS, Denoise, Sampler, Step, ddim
from signal_diffusion.diffusion.time_grids import TIME_GRIDS, shifted
from signal_diffusion.errors import UserError
from signal_diffusion.known import Known
from signal_diffusion.randomness import Purpose, generator_for, noise_for

__all__ = ["Conditions", "SampleGenerator", "TrajectoryRecorder", "sampler_of", "times_of"]

MAX_FRAMES = 50
MAX_DECODED_FRAMES = 13
"""Largest number of frames for a latent model, since each frame takes a pass of the decoder."""


class Conditions(Droppable, Protocol):
    """Conditions of a batch that can be cut into smaller ones."""

    @property
    def known(self) -> Known | None:
        """What is given of the examples, in the units of samples; None = nothing."""

    def with_known(self, known: Known | None) -> Self:
        """The same with other given values."""

    def with_places(self, places: Tensor | None) -> Self:
        """The same for electrodes at other places, (N, electrodes, 3)."""

    def __getitem__(self, rows: slice) -> Self:
        """The conditions of some examples."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""


class Decoder(Protocol):
    """The autoencoder of a latent space."""

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of the latents of one example, (c, h, w)."""

    def decode(self, z: Tensor, /) -> Tensor:
        """The examples (B, C, H, W) of latents (B, c, h, w)."""

    def borrowed(self) -> AbstractContextManager[None]:
        """Keep its weights in memory within the context; a `UserError` if they cannot be reloaded."""


C = TypeVar("C", bound=Conditions)
OnStep = Callable[[slice, int, Tensor, Tensor], None]
"""Called after each step of a batch: its rows, the step, x_t after the step and the step's x0, both as examples."""


@dataclass(frozen=True, kw_only=True)
class SampleGenerator:
    """Everything that determines the samples of a network, except the network and its conditions."""

    method: Method
    sampling: schema.Sampling
    """Sampler, time grid, guidance and seed."""
    shape: tuple[int, ...]
    """Shape of an example, (C, H, W)."""
    autoencoder: Decoder | None = None
    """Decoder of the latent space; None if the network works on the examples themselves."""
    device: torch.device | str = "cpu"
    """Device of the network."""
    takes_known: bool = False
    """Whether the network takes given values as input; otherwise they are inserted by replacement."""
    places: Tensor | None = None
    """Places of the electrodes of samples, (electrodes, 3); None = those that the network was trained on."""
    project: Callable[[Tensor], Tensor] | None = None
    """Linear projection of x0 (B, C, H, W) onto the subspace that the training data are in, such as signals whose
    electrodes average to zero; None = all of the space."""

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape of what the network generates: an example or its latents."""
        return self.autoencoder.latent_shape if self.autoencoder else self.shape

    def without_guide(self, *, guidance_scale: float, seed: int) -> SampleGenerator:
        """The same with another scale and seed, and classifier-free guidance in place of a second network."""
        kind = "classifier-free" if self.sampling.guidance_type == "autoguidance" else self.sampling.guidance_type
        sampling = dataclasses.replace(self.sampling, guidance_scale=guidance_scale, guidance_type=kind, seed=seed)
        return dataclasses.replace(self, sampling=sampling)

    def check_takes_given(self) -> None:
        """Raise a `UserError` if no part of a sample can be given, as restoring and long recordings do.

        Pink noise of given values would have to fit that of the others, which the network does not tell.
        """
        if self.method.normalisation.spectrum:
            raise UserError(
                '[model.diffusion] noise: a model that was trained with "pink" noise generates whole windows only; '
                'to restore or continue signals, train with "white" noise, best with [training.masking]'
            )

    @torch.no_grad()
    def generate(
        self,
        model: Network[C],
        cond: C,
        indices: Sequence[int],
        *,
        guide: Network[C] | None = None,
        batch_size: int = 64,
        on_evaluation: Callable[[], None] = lambda: None,
        on_step: OnStep | None = None,
    ) -> Tensor:
        """Samples (N, *network_shape) on the CPU, in float32, before any decoding.

        Sample i depends only on (seed, indices[i]) and its condition. Values that are given by the conditions are
        those of the samples, to the bit; a network that does not take them as input is not guided then.

        Parameters
        ----------
        model
            The network, in eval mode.
        cond
            Conditions of the N samples.
        indices
            Numbers of the N samples, which together with the seed determine their noise.
        guide
            The weaker network of autoguidance.
        on_evaluation
            Called before each evaluation of the network, and after the last; may raise.
        on_step
            Called after each step of a batch, see `OnStep`.
        """
        own, times, parts = sampler_of(self.sampling), times_of(self.method, self.sampling), []
        normalisation = self.method.normalisation
        if cond.known:
            self.check_takes_given()
        if self.places is not None:
            cond = cond.with_places(self.places.expand(len(indices), -1, -1))
        for start in range(0, len(indices), batch_size):
            rows = slice(start, start + batch_size)
            generators = [generator_for(Purpose.SAMPLE, self.sampling.seed, i) for i in indices[rows]]
            noise = noise_for(generators, self.network_shape).to(self.device)
            part = cond[rows].to(self.device)
            known = part.known and Known(normalisation.normalised(part.known.values), part.known.mask)
            part = part.with_known(known if self.takes_known else None)
            # guidance of a step that is repeated would add up
            scale = 1.0 if known and not self.takes_known else self.sampling.guidance_scale
            denoise = _announced(self._denoise(model, part, guide, noise, scale), on_evaluation)
            project = self._projection(known)
            if project:
                denoise = projected(denoise, project, self.method.schedule)
            sampler: Sampler | Replacement = own
            if known and self.takes_known:
                denoise = with_given(denoise, known, self.method.schedule)
            elif known:
                sampler = Replacement(own, known, self.sampling.resampling_steps)
            report = partial(_report, on_step, rows, normalisation) if on_step else None
            x0 = sampler(denoise, self.method.schedule, noise, times, generators, on_step=report)
            x0 = normalisation.restored((project(x0) if project else x0).cpu())
            given = cond[rows].known
            parts.append(given.to("cpu").inserted(x0) if given else x0)
        on_evaluation()
        return torch.cat(parts) if parts else torch.empty(0, *self.network_shape)

    def decode(self, samples: Tensor) -> Tensor:
        """The examples (N, *shape) of samples (N, *network_shape)."""
        return self.autoencoder.decode(samples) if self.autoencoder else samples

    @contextmanager
    def decoder_in_memory(self) -> Iterator[None]:
        """Keep the decoder, if any, in memory within the context; a `UserError` if it cannot be reloaded."""
        if self.autoencoder is None:
            yield
            return
        with self.autoencoder.borrowed():
            yield

    def first_noise(self, indices: Sequence[int]) -> Tensor:
        """The noise from which `generate` starts samples, (N, *network_shape) on the CPU, as examples."""
        generators = [generator_for(Purpose.SAMPLE, self.sampling.seed, i) for i in indices]
        return self.method.normalisation.restored(noise_for(generators, self.network_shape))

    def recorder(self, indices: Sequence[int]) -> TrajectoryRecorder:
        """An `on_step` that records the trajectory of the samples `indices`: up to 50 frames, 13 for latents."""
        count = min(self.sampling.steps, (MAX_DECODED_FRAMES if self.autoencoder else MAX_FRAMES) - 1)
        steps = [number * self.sampling.steps // count for number in range(count)]
        return TrajectoryRecorder(self.first_noise(indices), steps)

    def _projection(self, known: Known | None) -> Callable[[Tensor], Tensor] | None:
        """`project`, except of examples that are given at some electrodes and not at others at the same time.

        The average of those is over the given electrodes, see `[training.masking]`.
        """
        project = self.project
        if project is None or known is None:
            return project
        whole = (known.mask.all(2) | ~known.mask.any(2)).flatten(1).all(1)[:, None, None, None]  # (B, 1, 1, 1)
        return lambda x0: torch.where(whole, project(x0), x0)

    def _denoise(self, model: Network[C], cond: C, guide: Network[C] | None, noise: Tensor, scale: float) -> Denoise:
        """The denoiser of a batch: the model with its conditions, guided if the scale is not 1."""
        method, sampling, interval = self.method, self.sampling, self.sampling.guidance_interval
        conditional = unguided(model, method, cond)
        if scale == 1:
            return conditional
        if sampling.guidance_type == "autoguidance":
            if guide is None:
                raise UserError(
                    "[generation.sampling] guidance_checkpoint: autoguidance needs a second network, but the model was "
                    "loaded without one; load it with a guidance_scale other than 1, or set another guidance_type"
                )
            other = unguided(guide, method, cond)
        else:
            other = unguided(model, method, cond.drop(torch.ones(len(noise), dtype=torch.bool, device=noise.device)))
        if sampling.guidance_type == "cfg++":
            return rectified_cfg_plus_plus(conditional, other, method.schedule, scale, interval=interval)
        rescale = sampling.guidance_rescale
        return guided(conditional, other, method.schedule, scale, interval=interval, rescale=rescale)


def sampler_of(sampling: schema.Sampling) -> Sampler:
    """The sampler of [generation.sampling]."""
    return ddim(sampling.eta) if sampling.sampler == "ddim" else SAMPLERS[sampling.sampler]


def times_of(method: Method, sampling: schema.Sampling) -> Tensor:
    """The times of [generation.sampling], (steps + 1,) float64; a `UserError` if there are too many steps."""
    if sampling.time_grid == "shifted":
        return shifted(method, sampling.steps, shift=sampling.time_shift)
    return TIME_GRIDS[sampling.time_grid](method, sampling.steps)


class TrajectoryRecorder:
    """An `on_step` that records x_t and the predicted x0 of the first samples at the start of some steps.

    Parameters
    ----------
    noise
        Noise from which the first samples start, (n, C, H, W), with n at most the batch size.
    steps
        Steps to record, counted from 0.
    """

    def __init__(self, noise: Tensor, steps: Collection[int]) -> None:
        self._xt, self._steps = noise, frozenset(steps)
        self.frames: list[tuple[Tensor, Tensor]] = []
        """x_t and x0, (n, C, H, W) each, on the CPU."""

    def __call__(self, rows: slice, step: int, x: Tensor, x0: Tensor) -> None:
        """Record a step of the first batch."""
        if rows.start:
            return
        count = len(self._xt)
        if step in self._steps:
            self.frames.append((self._xt.float().cpu(), x0[:count].float().cpu()))
        self._xt = x[:count]


def _announced(denoise: Denoise, on_evaluation: Callable[[], None]) -> Denoise:
    def announced(x: Tensor, t: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        on_evaluation()
        return denoise(x, t, step)

    return announced


def _report(on_step: OnStep, rows: slice, normalisation: Normalisation, step: int, x: Tensor, x0: Tensor) -> None:
    on_step(rows, step, normalisation.restored(x), normalisation.restored(x0))
