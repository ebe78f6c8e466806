"""Pictures of samples while training: a row per class, and its mean spectrum beside that of real examples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from signal_diffusion.config import schema
from signal_diffusion.data.loaders import Examples, spread
from signal_diffusion.data.spectrogram import Representation
from signal_diffusion.diffusion.generation import generate
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.models.conditioning import Attribute, Categorical, Conditioning
from signal_diffusion.models.denoiser import Denoiser

__all__ = ["Group", "Previews", "draw", "groups_of"]

COLUMNS = 8
REAL_EXAMPLES = 1024


@dataclass(frozen=True, kw_only=True)
class Group:
    """Samples that are shown together, and the real examples to compare them with."""

    title: str
    cond: Conditioning
    num_samples: int
    real: Tensor
    """(N, C, H, W)."""


def groups_of(examples: Examples, attributes: Sequence[Attribute], num_samples: int) -> list[Group]:
    """One group per class where the model knows the label alone; else one with the conditions of real examples."""
    rows = spread(len(examples), REAL_EXAMPLES) or list(range(len(examples)))
    real, values = examples[rows]
    if [type(attribute) for attribute in attributes] == [Categorical]:
        attribute = cast(Categorical, attributes[0])
        share = max(1, num_samples // len(attribute.names))
        return [
            Group(
                title=f"{attribute.name}: {name}",
                cond=Conditioning({attribute.name: torch.full((share,), index)}),
                num_samples=share,
                real=real[values[attribute.name] == index],
            )
            for index, name in enumerate(attribute.names)
        ]
    chosen = torch.linspace(0, len(rows) - 1, num_samples).long()
    cond = Conditioning({name: column[chosen] for name, column in values.items()})
    return [Group(title="samples", cond=cond, num_samples=num_samples, real=real)]


class Previews:
    """Draws `step-XXXXXXXX.png` into a folder, the same samples each time, by the work of all processes."""

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
    ) -> None:
        self._folder, self._method, self._representation = folder, method, representation
        self._groups = groups_of(examples, attributes, visualization.num_samples)
        self._shape = examples.shape
        self._sampling = dataclasses.replace(
            sampling, guidance_scale=visualization.guidance_scale, seed=visualization.seed
        )

    def __call__(self, model: Denoiser, accelerator: Accelerator, step: int, poll: Callable[[], None]) -> Path:
        """Sample and draw; the picture's path. `poll` is called before each batch and may raise."""
        was_training = model.training
        model.eval()
        try:
            samples = [self._sample(model, accelerator, group, poll) for group in self._groups]
        finally:
            model.train(was_training)
        path = self._folder / f"step-{step:08d}.png"
        if accelerator.is_main_process:
            draw(path, self._groups, samples, self._representation, title=f"step {step}")
        return path

    def _sample(self, model: Denoiser, accelerator: Accelerator, group: Group, poll: Callable[[], None]) -> Tensor:
        rank, world = accelerator.process_index, accelerator.num_processes
        share = -(-group.num_samples // world)
        # The last ones may come out twice: every process has to poll equally often.
        own = [min(i, group.num_samples - 1) for i in range(rank, rank + share * world, world)]
        part = generate(
            model,
            self._method,
            group.cond[torch.tensor(own)],
            own,
            shape=self._shape,
            sampling=self._sampling,
            device=accelerator.device,
            on_batch=lambda done: poll(),
        )
        gathered = gather_object([(own, part)]) if world > 1 else [(own, part)]
        samples = torch.empty(group.num_samples, *self._shape)
        for indices, values in gathered:
            samples[indices] = values
        return samples


def draw(
    path: Path,
    groups: Sequence[Group],
    samples: Sequence[Tensor],
    representation: Representation,
    *,
    title: str,
) -> None:
    """A PNG with a row per group: its first samples, then the mean spectrum of all of them and of real examples."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, max(group.num_samples for group in groups))
    figure = Figure(figsize=(1.7 * columns + 3.6, 1.9 * len(groups) + 0.6), layout="constrained")
    axes = figure.subplots(len(groups), columns + 1, squeeze=False, width_ratios=[1.0] * columns + [1.8])
    for row, group, values in zip(axes, groups, samples, strict=True):
        for axis, value in zip(row[:-1], values, strict=False):
            axis.imshow(value[0], vmin=-1, vmax=1, cmap="magma", aspect="auto", interpolation="nearest")
        for axis in row[:-1]:
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(group.title)
        for name, tensors, style in (("real", group.real, "--"), ("generated", values, "-")):
            if len(tensors):
                frequencies, level = representation.mean_spectrum(tensors)
                row[-1].plot(frequencies.numpy(), level.numpy(), style, label=name, linewidth=1.2)
        row[-1].set_ylabel("dB re 1 µV")
        row[-1].grid(alpha=0.3)
    axes[0, -1].legend(fontsize="small")
    axes[-1, -1].set_xlabel("Hz")
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
