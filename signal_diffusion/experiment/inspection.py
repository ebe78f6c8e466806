"""What an experiment would take, and what is doubtful about it, found out without training.

`signal-diffusion config check` tells both, and a run begins with the latter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.warnings import Doubt, Extent, doubts
from signal_diffusion.data.loaders import spread
from signal_diffusion.experiment.conditions import attributes_of, caption_of
from signal_diffusion.experiment.dataset import (
    Dataset,
    captions_in,
    grouping_of,
    num_train_examples,
    order_of,
    steps_of,
)
from signal_diffusion.experiment.network import model_of
from signal_diffusion.experiment.pretrained import Pretrained
from signal_diffusion.experiment.resolving import Resolved
from signal_diffusion.models.conditioning.attributes import Conditioning, Numeric
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.flops import forward_flops
from signal_diffusion.models.lora import add_lora

__all__ = ["Inspection", "doubts_of", "inspect"]

FP32 = 4
COPIES = {"adamw": 2, "adam": 2, "sgd": 1}


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Figures of an experiment on one process."""

    parameters: int
    tokens: int
    train_examples: int
    steps_per_epoch: int
    num_steps: int
    state_bytes: int
    """Weights, tables of what is looked up, such as captions, those of an autoencoder that stays in memory too, and
    gradients, optimizer state and average of the trained weights; in fp32."""
    activation_bytes: int
    """What the forward pass of one batch keeps for the backward pass."""
    flops: int
    """Floating-point operations of a forward pass of one example; a training step takes about three times as many."""
    kernels: dict[str, str]


def inspect(resolved: Resolved) -> Inspection:
    """Build the model without memory, and read the dataset's card and the columns that it is balanced by.

    Raises
    ------
    UserError
        For what training would refuse.
    """
    experiment, dataset, autoencoder = resolved.experiment, resolved.dataset, resolved.autoencoder
    card = dataset.card
    latent_shape = autoencoder.latent_shape if autoencoder else None
    training, loading = experiment.training, experiment.data.loading
    texts = captions_in(experiment, dataset)
    with FakeTensorMode():
        caption = caption_of(experiment, texts, embed=False)
        model = model_of(experiment.model, card, experiment.data.columns, latent_shape, caption)
        if experiment.model.lora.enabled:
            add_lora(model, experiment.model.lora)
        if training.gradient_checkpointing:
            model.checkpoint_gradients()
        attributes = attributes_of(experiment.model.conditioning, card, experiment.data.columns, caption)
        cond = Conditioning(
            {
                attribute.name: torch.zeros(loading.batch_size)
                if isinstance(attribute, Numeric)
                else torch.zeros(loading.batch_size, dtype=torch.int64)
                for attribute in attributes
            }
        )
        x = torch.empty(loading.batch_size, *(latent_shape or card.shape))
        activations = _kept_bytes(model, x, cond, bf16=training.mixed_precision != "no")
        flops = forward_flops(model, x[:1], cond[:1])
    if resolved.pretrained:
        resolved.pretrained.check(model, experiment)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    tables = sum(buffer.numel() for buffer in model.buffers())
    stays = not experiment.model.autoencoder.cache_latents
    frozen = autoencoder.num_parameters if autoencoder and stays else 0
    examples = num_train_examples(experiment, dataset)
    grouping_of(dataset)
    order = order_of(experiment, examples)
    copies = 1 + COPIES[training.optimizer.type] + training.ema.enabled
    return Inspection(
        parameters=parameters,
        tokens=model.num_tokens,
        train_examples=examples,
        steps_per_epoch=order.steps_per_epoch,
        num_steps=steps_of(training, order.steps_per_epoch),
        state_bytes=(parameters + tables + frozen + trained * copies) * FP32,
        activation_bytes=activations,
        flops=flops,
        kernels=model.kernels,
    )


def doubts_of(
    experiment: schema.Experiment | AutoencoderExperiment,
    dataset: Dataset,
    pretrained: Pretrained | None = None,
    *,
    num_processes: int = 1,
) -> list[Doubt]:
    """What the experiment may say of this dataset and seldom means, as (dotted key, message).

    Raises
    ------
    UserError
        Where a split is missing, or too small for one step.
    """
    examples = num_train_examples(experiment, dataset)
    order = order_of(experiment, examples, num_processes=num_processes)
    extent = Extent(
        num_steps=steps_of(experiment.training, order.steps_per_epoch),
        steps_per_epoch=order.steps_per_epoch,
        examples_per_step=order.examples_per_step,
        num_examples=examples,
        num_unlabelled=_num_unlabelled(experiment, dataset) if isinstance(experiment, schema.Experiment) else 0,
    )
    fresh = []
    if isinstance(experiment, schema.Experiment) and pretrained:
        fresh = [*_fresh_conditioning(pretrained.other_conditions(experiment, dataset.card))]
    return [*fresh, *doubts(experiment, extent)]


def _fresh_conditioning(before: str) -> Iterator[Doubt]:
    """That a new run starts from weights that were trained with other conditions, `before`."""
    if before:
        yield (
            "model.pretrained",
            f"trained with other conditions ({before}): what embeds conditions starts fresh, and all else from there",
        )


def _num_unlabelled(experiment: schema.Experiment, dataset: Dataset) -> int:
    """Training examples without a label, if the model is conditioned on only that."""
    data = dataset.data
    if experiment.model.conditioning.type != "class" or data.columns.label not in dataset.card.columns:
        return 0
    files = dataset.files(data.paths.train)
    labels = [label for path in files for label in pq.read_table(path, columns=[data.columns.label])[0].to_pylist()]
    return sum(labels[row] is None for row in spread(len(labels), data.loading.max_train_examples))


def _kept_bytes(model: Denoiser, x: Tensor, cond: Conditioning, *, bf16: bool) -> int:
    """Bytes of the storages that autograd keeps after a forward pass, the parameters' own left out."""
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        model(x, torch.empty(len(x)), cond)
    return sum(storage.nbytes() for storage in kept.values())
