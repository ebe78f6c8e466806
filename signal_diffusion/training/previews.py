"""Pictures of samples while training: a row per class, and its mean spectrum beside that of real examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.generation import generate
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.figures import Row, draw_latents, draw_samples
from signal_diffusion.models.autoencoder import Autoencoder
from signal_diffusion.models.conditioning import Attribute, Caption, Categorical, Conditioning
from signal_diffusion.training.evaluating import in_eval_mode

__all__ = ["Group", "Previews", "groups_of"]

REAL_EXAMPLES = 1024
MOST_CAPTIONS = 4


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


class Previews:
    """Draws `step-XXXXXXXX.png` into a folder, the same samples each time, by the work of all processes.

    Beside it, `step-XXXXXXXX-latents.png` has some of the latents that they were decoded from: the share of the first
    process. Where a VAE that was let go of cannot be had again, there is a line and no picture: training goes on.
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
        self._sampling = dataclasses.replace(
            sampling, guidance_scale=visualization.guidance_scale, seed=visualization.seed
        )

    def __call__(
        self, model: nn.Module, accelerator: Accelerator, step: int, poll: Callable[[], None]
    ) -> dict[str, Path]:
        """Sample and draw; the pictures by name. `poll` is called before each batch and may raise."""
        with in_eval_mode(model):
            generated = [self._generate(model, accelerator, group, poll) for group in self._groups]
        try:
            with self._autoencoder.borrowed() if self._autoencoder else nullcontext():
                samples = [
                    self._gathered(own, part, group, accelerator)
                    for group, (own, part) in zip(self._groups, generated, strict=True)
                ]
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
                latents = torch.cat([part for _, part in generated])
                draw_latents(pictures["latents"], latents, title=f"step {step}")
        return pictures

    def _generate(
        self, model: nn.Module, accelerator: Accelerator, group: Group, poll: Callable[[], None]
    ) -> tuple[list[int], Tensor]:
        """This process's share of a group: numbers, and samples as they leave the network."""
        rank, world = accelerator.process_index, accelerator.num_processes
        share = -(-group.num_samples // world)
        # The last ones may come out twice: every process has to poll equally often.
        own = [min(i, group.num_samples - 1) for i in range(rank, rank + share * world, world)]
        part = generate(
            model,
            self._method,
            group.cond[torch.tensor(own)],
            own,
            shape=self._autoencoder.latent_shape if self._autoencoder else self._shape,
            sampling=self._sampling,
            device=accelerator.device,
            on_batch=lambda done: poll(),
        )
        return own, part

    def _gathered(self, own: list[int], part: Tensor, group: Group, accelerator: Accelerator) -> Tensor:
        """A group's samples as data, from the shares of all processes."""
        if self._autoencoder:
            part = self._autoencoder.decode(part)
        gathered = gather_object([(own, part)]) if accelerator.num_processes > 1 else [(own, part)]
        samples = torch.empty(group.num_samples, *self._shape)
        for indices, values in gathered:
            samples[indices] = values
        return samples
