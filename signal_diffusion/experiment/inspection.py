"""Cost of an experiment and warnings about it, found without training.

`signal-diffusion config check` shows both; a run shows the warnings when it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow.parquet as pq
import torch

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.warnings import Extent, Finding, findings_in
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.diffusion.normalisation import UNCHANGED
from signal_diffusion.experiment.conditions import attributes_of, caption_of
from signal_diffusion.experiment.dataset import (
    Dataset,
    captions_in,
    grouping_of,
    num_train_examples,
    order_of,
    steps_of,
)
from signal_diffusion.experiment.measuring import kept_bytes, measured
from signal_diffusion.experiment.memory import FP32, Memory, gathered_bytes, state_bytes
from signal_diffusion.experiment.network import model_of
from signal_diffusion.experiment.pretrained import Pretrained
from signal_diffusion.experiment.resolving import Resolved
from signal_diffusion.models.conditioning.attributes import Attribute, Conditioning, Numeric
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.flops import forward_flops
from signal_diffusion.models.lora import add_lora

__all__ = ["Inspection", "any_conditions", "extent_of", "findings_on", "fresh_network", "inspect"]


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Size and cost of an experiment on one process."""

    parameters: int
    trained: int
    """Parameters that are trained; with LoRA, not all."""
    tokens: int
    extent: Extent | None
    """The length of the run; None if the dataset is missing."""
    memory: Memory
    """With the lookup tables (of captions), and the autoencoder if it stays in memory."""
    flops: int
    """Floating-point operations of a forward pass of one example; a training step takes about three times as many."""
    kernels: dict[str, str]


def inspect(resolved: Resolved) -> Inspection:
    """Build and measure the model, and read the dataset's card and the columns that balance it, if it is not assumed.

    Raises
    ------
    UserError
        For any error that training would raise.
    """
    experiment, dataset, autoencoder = resolved.experiment, resolved.dataset, resolved.autoencoder
    training = experiment.training
    texts = () if dataset.is_assumed else captions_in(experiment, dataset)
    model, (activations, flops) = _measured(resolved, texts)
    if resolved.pretrained:
        resolved.pretrained.check(model, experiment)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    hidden = sum(parameter.numel() for parameter in model.hidden_matrices)
    tables = sum(buffer.numel() for buffer in model.buffers())
    stays = not experiment.model.autoencoder.cache_latents
    frozen = autoencoder.num_parameters if autoencoder and stays else 0
    blocks = [sum(parameter.numel() for parameter in block.parameters()) for block in model.blocks]
    extent = None if dataset.is_assumed else extent_of(experiment, dataset)
    if extent:
        grouping_of(dataset)
    return Inspection(
        parameters=parameters,
        trained=trained,
        tokens=model.num_tokens,
        extent=extent,
        memory=Memory(
            state=state_bytes(training, weights=parameters + tables + frozen, trained=trained, hidden=hidden),
            activations=activations,
            whole=(tables + frozen) * FP32,
            gathered=gathered_bytes(blocks, parameters - sum(blocks)),
        ),
        flops=flops,
        kernels=model.kernels,
    )


def fresh_network(resolved: Resolved, texts: Sequence[str] = ()) -> tuple[Denoiser, Sequence[Attribute]]:
    """The network that would be trained, with fresh weights, and its attributes; embeddings of captions are not set."""
    experiment, card, autoencoder = resolved.experiment, resolved.dataset.card, resolved.autoencoder
    table = experiment.model
    caption = resolved.caption or caption_of(experiment, texts, embed=False)
    model = model_of(experiment, card, autoencoder.latent_shape if autoencoder else None, caption)
    if table.lora.enabled:
        add_lora(model, table.lora)
    if experiment.training.gradient_checkpointing:
        model.checkpoint_gradients()
    return model, attributes_of(table.conditioning, card, experiment.data.columns, caption)


def any_conditions(attributes: Sequence[Attribute], count: int) -> Conditioning:
    """Conditions of so many examples, the same for all: the first of each category, and numbers of 0."""
    return Conditioning(
        {
            attribute.name: torch.zeros(count, dtype=torch.float32 if isinstance(attribute, Numeric) else torch.int64)
            for attribute in attributes
        }
    )


def extent_of(
    experiment: schema.Experiment | AutoencoderExperiment, dataset: Dataset, *, num_processes: int = 1
) -> Extent:
    """The length of a run on this dataset, without `num_unlabelled`, which takes reading it.

    Raises
    ------
    UserError
        If a split is missing or too small for one step.
    """
    examples = num_train_examples(experiment, dataset)
    order = order_of(experiment, examples, num_processes=num_processes)
    return Extent(
        num_steps=steps_of(experiment.training, order.steps_per_epoch),
        steps_per_epoch=order.steps_per_epoch,
        examples_per_step=order.examples_per_step,
        num_examples=examples,
    )


def findings_on(
    experiment: schema.Experiment | AutoencoderExperiment,
    dataset: Dataset,
    pretrained: Pretrained | None = None,
    *,
    num_processes: int = 1,
) -> list[Finding]:
    """Warnings about settings that are legal but suspicious for this dataset, as (dotted key, message).

    Raises
    ------
    UserError
        If a split is missing or too small for one step.
    """
    extent = extent_of(experiment, dataset, num_processes=num_processes)
    if isinstance(experiment, schema.Experiment):
        extent = replace(extent, num_unlabelled=_num_unlabelled(experiment, dataset))
    about_weights = _about_pretrained(pretrained, experiment, dataset.card) if pretrained else []
    return [*about_weights, *_about_normalisation(experiment, dataset), *findings_in(experiment, extent)]


def _about_normalisation(experiment: schema.Experiment | AutoencoderExperiment, dataset: Dataset) -> list[Finding]:
    """A warning about a dataset that `prepare` wrote before it measured the spread of examples."""
    on_latents = isinstance(experiment, AutoencoderExperiment) or experiment.model.autoencoder.enabled
    known = on_latents or isinstance(dataset.representation, Picture)
    if known or dataset.representation.normalisation != UNCHANGED:
        return []
    advice = "prepare the dataset again, since noise drowns most of such examples, unless you go on with an older run"
    return [("data.paths.root", f"the card does not say what to normalise examples by; {advice}")]


def _about_pretrained(
    pretrained: Pretrained, experiment: schema.Experiment | AutoencoderExperiment, card: DatasetCard
) -> list[Finding]:
    if isinstance(experiment, AutoencoderExperiment):
        return []
    lines = []
    if conditions := pretrained.other_conditions(experiment, card):
        lines.append(
            f"trained with other conditions ({conditions}): the embeddings of conditions start from fresh weights, and "
            "all other weights are loaded"
        )
    if electrodes := pretrained.other_electrodes(experiment, card):
        lines.append(
            f"trained on other electrodes ({electrodes}): what it learned about one starts as that of another; only "
            "with model.conditioning.electrodes = 'position' do weights not depend on the electrodes"
        )
    if not experiment.model.autoencoder.enabled and pretrained.other_normalisation(card):
        lines.append(
            "trained on examples of another size (the card of one of both datasets is of an older version, without "
            "normalisation): what it learned hardly fits; prepare the older dataset again and train on it"
        )
    return [("model.pretrained", line) for line in lines]


def _num_unlabelled(experiment: schema.Experiment, dataset: Dataset) -> int:
    """Training examples without a label, if the model is conditioned on only that."""
    data = dataset.data
    if experiment.model.conditioning.type != "class" or data.columns.label not in dataset.card.columns:
        return 0
    if dataset.is_streamed(data.paths.train):
        labels = dataset.open(data.paths.train).data.column(data.columns.label).to_pylist()
    else:
        files = dataset.files(data.paths.train)
        labels = [label for path in files for label in pq.ParquetFile(path).read([data.columns.label])[0].to_pylist()]
    return sum(labels[row] is None for row in evenly_spaced(len(labels), data.loading.max_train_examples))


def _measured(resolved: Resolved, texts: Sequence[str]) -> tuple[Denoiser, tuple[int, int]]:
    """The network, and the bytes that its forward pass of a batch keeps and the FLOPs of one example."""
    batch_size = resolved.experiment.data.loading.batch_size
    attributes: list[Attribute] = []

    def build() -> Denoiser:
        model, attributes[:] = fresh_network(resolved, texts)
        return model

    def positions(model: Denoiser) -> int:
        return model.num_tokens * batch_size

    return measured(build, positions, lambda model: _costs(resolved, model, attributes))


def _costs(resolved: Resolved, model: Denoiser, attributes: Sequence[Attribute]) -> tuple[int, int]:
    """Bytes that the forward pass of a batch keeps, and FLOPs of the forward pass of one example."""
    batch_size, autoencoder = resolved.experiment.data.loading.batch_size, resolved.autoencoder
    cond = any_conditions(attributes, batch_size)
    x = torch.zeros(batch_size, *(autoencoder.latent_shape if autoencoder else resolved.dataset.card.shape))
    bf16 = resolved.experiment.training.mixed_precision != "no"
    kept = kept_bytes(model, x, torch.empty(batch_size), cond, bf16=bf16)
    return kept, forward_flops(model, x[:1], cond[:1])
