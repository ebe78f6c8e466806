"""Pictures of samples while training: a row per class, and its mean spectrum beside that of real examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.generation import MOST_DECODED, MOST_FRAMES, Beginnings, first_noise
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.figures.pixels import draw_animation
from signal_diffusion.figures.samples import Row, draw_latents, draw_samples
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Conditioning
from signal_diffusion.training.sampling import by_itself, draw, gathered, own_numbers
from signal_diffusion.training.validation import in_eval_mode

__all__ = ["Group", "Previews", "groups_of"]

REAL_EXAMPLES = 1024
MOST_CAPTIONS = 4
ANIMATED = 8
"""Samples of all groups together in an animation, where there are not more groups."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Samples that are shown together, and the real examples to compare them with."""

    title: str
    cond: Conditioning
    num_samples: int
    real: Tensor
    """(N, C, H, W)."""


def groups_of(examples: Examples, attributes: Sequence[Attribute], num_samples: int) -> list[Group]:
    """One group per class where the model knows the label alone, or per caption of the commonest where it knows that.

    Else one with the conditions of real examples.
    """
    rows = spread(len(examples), REAL_EXAMPLES)
    real, values = examples[rows]
    if titles := _titles(attributes, values):
        [name], share = values, max(1, num_samples // len(titles))
        return [
            Group(
                title=f"{name}: {title}",
                cond=Conditioning({name: torch.full((share,), index)}),
                num_samples=share,
                real=real[values[name] == index],
            )
            for index, title in titles.items()
        ]
    chosen = torch.linspace(0, len(rows) - 1, num_samples).long()
    cond = Conditioning({name: column[chosen] for name, column in values.items()})
    return [Group(title="samples", cond=cond, num_samples=num_samples, real=real)]


def _titles(attributes: Sequence[Attribute], values: Mapping[str, Tensor]) -> dict[int, str]:
    """The values of a model's only attribute that have a group each."""
    [attribute] = attributes if len(attributes) == 1 else [None]
    if isinstance(attribute, Categorical):
        return dict(enumerate(attribute.names))
    if not isinstance(attribute, Caption):
        return {}
    indices = values[attribute.name]
    found, counts = indices[indices >= 0].unique(return_counts=True)
    commonest = found[counts.argsort(descending=True, stable=True)[:MOST_CAPTIONS]]
    return {index: attribute.texts[index] for index in commonest.tolist()}


@dataclass(frozen=True, kw_only=True)
class _Share:
    """What one process has sampled of a group."""

    numbers: list[int]
    samples: Tensor
    """As they leave the network, (n, C, H, W)."""
    frames: list[tuple[Tensor, Tensor]]
    """Of its first samples: x_t and x0 at the beginning of some steps; empty where nothing is animated."""


class Previews:
    """Draws `step-XXXXXXXX.png` into a folder, the same samples each time, by the work of all processes.

    Beside it, `step-XXXXXXXX-latents.png` has some of the latents that they were decoded from: the share of the first
    process. With `animation`, `step-XXXXXXXX.gif` shows how its first samples of each group come out of noise; those
    of latents are decoded on the way, noise and all. If the VAE cannot be reloaded, it warns and skips the preview:
    training continues.
    """

    def __init__(
        self,
        folder: Path,
        examples: Examples,
        *,
        attributes: Sequence[Attribute],
        representation: Representation,
        method: Method,
        visualization: schema.Visualization,
        sampling: schema.Sampling,
        autoencoder: Autoencoder | None,
    ) -> None:
        self._folder, self._method, self._representation = folder, method, representation
        self._groups = groups_of(examples, attributes, visualization.num_samples)
        self._shape, self._autoencoder = examples.shape, autoencoder
        self._num_animated = max(1, ANIMATED // len(self._groups)) if visualization.animation else 0
        scale, seed = visualization.guidance_scale, visualization.seed
        self._sampling = by_itself(sampling, guidance_scale=scale, seed=seed)

    def __call__(
        self, model: nn.Module, accelerator: Accelerator, step: int, poll: Callable[[], None]
    ) -> dict[str, Path]:
        """Sample and draw; the pictures by name. `poll` is called before each batch and may raise."""
        with in_eval_mode(model):
            generated = [self._generate(model, accelerator, group, poll) for group in self._groups]
        try:
            with self._autoencoder.borrowed() if self._autoencoder else nullcontext():
                samples = [
                    self._gathered(share, group, accelerator)
                    for group, share in zip(self._groups, generated, strict=True)
                ]
                frames = self._frames(generated, samples) if self._num_animated else []
        except UserError as error:  # which all processes raise
            accelerator.print(f"warning: no pictures of step {step}: {error}")
            return {}
        pictures = {"samples": self._folder / f"step-{step:08d}.png"}
        if self._autoencoder:
            pictures["latents"] = self._folder / f"step-{step:08d}-latents.png"
        if accelerator.is_main_process:
            rows = [
                Row(title=group.title, samples=values, real=group.real)
                for group, values in zip(self._groups, samples, strict=True)
            ]
            draw_samples(pictures["samples"], rows, self._representation, title=f"step {step}")
            if self._autoencoder:
                latents = torch.cat([share.samples for share in generated])
                draw_latents(pictures["latents"], latents, title=f"step {step}")
            if frames:
                draw_animation(pictures["samples"].with_suffix(".gif"), frames, self._representation)
        return pictures

    def _generate(self, model: nn.Module, accelerator: Accelerator, group: Group, poll: Callable[[], None]) -> _Share:
        """This process's share of a group."""
        own = own_numbers(group.num_samples, accelerator)
        shape = self._autoencoder.latent_shape if self._autoencoder else self._shape
        beginnings = None
        if self._num_animated and accelerator.is_main_process:
            noise = first_noise(self._method, self._sampling.seed, own[: self._num_animated], shape)
            most = MOST_DECODED if self._autoencoder else MOST_FRAMES
            beginnings = Beginnings(noise, spread(self._sampling.steps, most - 1))
        part = draw(
            model,
            self._method,
            group.cond,
            own,
            accelerator,
            shape=shape,
            sampling=self._sampling,
            poll=poll,
            on_step=beginnings,
        )
        return _Share(numbers=own, samples=part, frames=beginnings.frames if beginnings else [])

    def _frames(self, shares: Sequence[_Share], samples: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The frames of an animation of all groups, as data, with the samples at its end; none but on one process."""
        if not shares[0].frames:
            return []
        steps = zip(*(share.frames for share in shares), strict=True)
        frames = [(torch.cat([xt for xt, _ in step]), torch.cat([x0 for _, x0 in step])) for step in steps]
        if self._autoencoder:
            frames = [(self._autoencoder.decode(xt), self._autoencoder.decode(x0)) for xt, x0 in frames]
        firsts = [share.numbers[: self._num_animated] for share in shares]
        end = torch.cat([values[numbers] for values, numbers in zip(samples, firsts, strict=True)])
        return [*frames, (end, end)]

    def _gathered(self, share: _Share, group: Group, accelerator: Accelerator) -> Tensor:
        """A group's samples as data, from the shares of all processes."""
        count, shape = group.num_samples, self._shape
        return gathered(
            share.numbers, share.samples, accelerator, count=count, shape=shape, autoencoder=self._autoencoder
        )
