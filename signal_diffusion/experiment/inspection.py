"""What an experiment would take, and what is doubtful about it, found out without training.

`signal-diffusion config check` tells both, and a run begins with the latter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.legacy.outcomes import Expectation
from signal_diffusion.config.warnings import Doubt, Extent, doubts
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import split_files, split_name
from signal_diffusion.data.loaders import spread
from signal_diffusion.experiment.conditions import attributes_of, caption_of, captions_in
from signal_diffusion.experiment.dataset import (
    check_expected,
    dataset_root,
    grouping_of,
    num_train_examples,
    order_of,
    read_card,
    steps_of,
)
from signal_diffusion.experiment.network import autoencoder_of, model_of, vae_of, with_architecture
from signal_diffusion.experiment.pretrained import check_pretrained, pretrained_conditions
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


def inspect(
    experiment: schema.Experiment, written: Collection[str] = (), expected: Iterable[Expectation] = ()
) -> Inspection:
    """Build the model without memory, and read the dataset's card and the columns that it is balanced by.

    A dataset that has to be downloaded, converted or generated is so first, as for training. `written` are the dotted
    keys that the file gives, which pretrained weights must not contradict; `expected` is what a file of an older layout
    says of the dataset.

    Raises
    ------
    UserError
        For what training would refuse.
    """
    experiment = with_architecture(experiment, written)
    vae = vae_of(experiment.model)
    root = dataset_root(experiment.data, experiment.model.pretrained)
    card = read_card(experiment.data, root)
    check_expected(expected, card)
    autoencoder = autoencoder_of(experiment.model, vae, card)
    latent_shape = autoencoder.latent_shape if autoencoder else None
    training, loading = experiment.training, experiment.data.loading
    texts = captions_in(experiment, root, card)
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
    if experiment.model.pretrained:
        check_pretrained(model, experiment)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    tables = sum(buffer.numel() for buffer in model.buffers())
    stays = not experiment.model.autoencoder.cache_latents
    frozen = autoencoder.num_parameters if autoencoder and stays else 0
    examples = num_train_examples(experiment, root, card)
    grouping_of(experiment.data, root, card)
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
    experiment: schema.Experiment | AutoencoderExperiment, root: Path, card: DatasetCard, *, num_processes: int = 1
) -> list[Doubt]:
    """What the experiment may say of this dataset and seldom means, as (dotted key, message).

    Raises
    ------
    UserError
        Where a split is missing, or too small for one step.
    """
    examples = num_train_examples(experiment, root, card)
    order = order_of(experiment, examples, num_processes=num_processes)
    extent = Extent(
        num_steps=steps_of(experiment.training, order.steps_per_epoch),
        steps_per_epoch=order.steps_per_epoch,
        examples_per_step=order.examples_per_step,
        num_examples=examples,
        num_unlabelled=_num_unlabelled(experiment, root, card) if isinstance(experiment, schema.Experiment) else 0,
    )
    return [*_fresh_conditioning(experiment, card), *doubts(experiment, extent)]


def _fresh_conditioning(experiment: schema.Experiment | AutoencoderExperiment, card: DatasetCard) -> Iterator[Doubt]:
    """That a new run starts from weights of other conditions."""
    if not isinstance(experiment, schema.Experiment) or experiment.training.resume.enabled:
        return
    if before := pretrained_conditions(experiment, card):
        yield (
            "model.pretrained",
            f"trained with other conditions ({before}): what embeds conditions starts fresh, and all else from there",
        )


def _num_unlabelled(experiment: schema.Experiment, root: Path, card: DatasetCard) -> int:
    """Training examples without a label, where the model is conditioned on it alone."""
    data = experiment.data
    if experiment.model.conditioning.type != "class" or data.columns.label not in card.columns:
        return 0
    files = split_files(root, split_name(card, data.paths.train, root))
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
