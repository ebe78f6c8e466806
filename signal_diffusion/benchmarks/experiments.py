"""The experiments whose speed is measured: one of the user's, or each backbone at its default size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from accelerate import Accelerator

from signal_diffusion.benchmarks.measuring import Row
from signal_diffusion.config import schema
from signal_diffusion.config.sources import check_trains, expectations, written_keys
from signal_diffusion.config.templates import PRESETS, Preset, template
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.assumed import Assumptions
from signal_diffusion.experiment.inspection import Inspection, any_conditions, fresh_network, inspect
from signal_diffusion.experiment.loading import file_in_errors, load_experiment, offer
from signal_diffusion.experiment.memory import check_memory
from signal_diffusion.experiment.resolving import Resolved, resolve
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.training.device import accelerator_of

__all__ = ["Case", "case_of", "rows_of_each"]

LARGEST_ON_CPU = 2
"""Examples per step on a CPU, where larger batches are hardly faster per example, unless the user asks for them."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """An experiment, resolved; what is missing on this machine is assumed, as by `config check`."""

    name: str
    resolved: Resolved
    inspection: Inspection
    accelerator: Accelerator

    @property
    def experiment(self) -> schema.Experiment:
        """The experiment, with the batch size to measure."""
        return self.resolved.experiment

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what the network sees of an example: the example itself or its latents."""
        autoencoder = self.resolved.autoencoder
        return autoencoder.latent_shape if autoencoder else self.resolved.dataset.card.shape

    def network(self) -> tuple[Denoiser, Sequence[Attribute]]:
        """A new network with fresh weights and, if it takes captions, with random embeddings; and its attributes."""
        model, attributes = fresh_network(self.resolved)
        for attribute in attributes:
            if isinstance(attribute, Caption):
                tokens, pooled = torch.randn_like(attribute.tokens), torch.randn_like(attribute.pooled)
                model.hold_captions(Caption(attribute.name, attribute.texts, tokens, pooled))
        return model, attributes

    def inputs(self, attributes: Sequence[Attribute], count: int) -> tuple[torch.Tensor, Conditioning]:
        """Noise (count, C, H, W) on the CPU, and conditions."""
        return torch.randn(count, *self.shape), any_conditions(attributes, count)


def case_of(file: Path, overrides: Sequence[str], batch_size: int | None = None, *, trains: bool = True) -> Case:
    """Read and resolve an experiment file; `batch_size` None = the experiment's, on a CPU at most `LARGEST_ON_CPU`.

    Raises
    ------
    UserError
        If the experiment is wrong, or it is for training, which takes more memory than the machine has.
    """
    check_trains(file)
    experiment = load_experiment(file, overrides)
    with file_in_errors(file):
        accelerator = accelerator_of(experiment)
        largest = LARGEST_ON_CPU if accelerator.device.type == "cpu" else experiment.data.loading.batch_size
        size = batch_size or min(experiment.data.loading.batch_size, largest)
        loading = dataclasses.replace(experiment.data.loading, batch_size=size)
        data = dataclasses.replace(experiment.data, loading=loading)
        training = dataclasses.replace(experiment.training, gradient_accumulation_steps=1)
        experiment = dataclasses.replace(experiment, data=data, training=training)
        resolved = resolve(experiment, written_keys(file, overrides), expectations(file), assumptions=Assumptions())
        inspection = inspect(dataclasses.replace(resolved, pretrained=None))
        if trains:
            checkpoints_gradients = training.gradient_checkpointing
            check_memory(inspection.memory, accelerator.device, checkpoints_gradients=checkpoints_gradients)
    name = f"{file.stem}, {' × '.join(map(str, resolved.dataset.card.shape))}"
    return Case(name=name, resolved=resolved, inspection=inspection, accelerator=accelerator)


def rows_of_each(config: Path | None, rows_of: Callable[[Path], list[Row]]) -> tuple[list[Row], list[str]]:
    """The rows of an experiment file, or of each backbone's; and a line for each backbone that cannot be measured.

    Raises
    ------
    UserError
        If the file, or no backbone, can be measured.
    """
    if config:
        return rows_of(config), []
    rows, lines = list[Row](), list[str]()
    for file in _default_files():
        try:
            rows += rows_of(file)
        except UserError as error:
            lines += [line.replace(str(file), file.stem) for line in error.lines]
    if not rows:
        raise UserError(*lines)
    return rows, lines


def _default_files() -> Iterator[Path]:
    """An experiment file of each backbone that downloads nothing, as `config new` writes it.

    It exists until the next one is asked for.
    """
    known = offer()
    for backbone in BACKBONES:
        if PRESETS.get(backbone, Preset()).pretrained:
            continue
        representation = "image" if backbone == "unet" else "db-only"
        with TemporaryDirectory() as folder:
            file = Path(folder) / f"{backbone}-{representation}.toml"
            file.write_text(template(backbone, representation, known), encoding="utf-8")
            yield file
