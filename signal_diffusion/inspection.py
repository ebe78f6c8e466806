"""What an experiment would take, found out without training: `signal-diffusion config check`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from signal_diffusion import experiment as experiments
from signal_diffusion.config import schema
from signal_diffusion.data.dataset import split_files
from signal_diffusion.models.conditioning import Categorical, Conditioning
from signal_diffusion.models.denoiser import Denoiser

__all__ = ["Inspection", "inspect"]

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
    """Weights, gradients, optimizer state and average, in fp32."""
    activation_bytes: int
    """What the forward pass of one batch keeps for the backward pass."""
    kernels: dict[str, str]


def inspect(experiment: schema.Experiment) -> Inspection:
    """Build the model without memory, and read the dataset's card and the columns that it is balanced by.

    A dataset that has to be downloaded, converted or generated is so first, as for training.

    Raises
    ------
    UserError
        For what training would refuse.
    """
    root = experiments.dataset_root(experiment.data, experiment.model.pretrained)
    card = experiments.read_card(experiment.data, root)
    training, loading = experiment.training, experiment.data.loading
    with FakeTensorMode():
        model = experiments.model_of(experiment.model, card, experiment.data.columns)
        if training.gradient_checkpointing:
            model.checkpoint_gradients()
        attributes = experiments.attributes_of(experiment.model.conditioning, card, experiment.data.columns)
        cond = Conditioning(
            {
                attribute.name: torch.zeros(loading.batch_size, dtype=torch.int64)
                if isinstance(attribute, Categorical)
                else torch.zeros(loading.batch_size)
                for attribute in attributes
            }
        )
        x = torch.empty(loading.batch_size, *card.shape)
        activations = _kept_bytes(model, x, cond, bf16=training.mixed_precision != "no")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    split = experiments.split_name(card, experiment.data.paths.train, root)
    split_files(root, split)
    if training.validation.enabled:
        split_files(root, experiments.split_name(card, experiment.data.paths.val, root))
    examples = min(card.splits[split]["examples"], loading.max_train_examples or card.splits[split]["examples"])
    experiments.grouping_of(experiment.data, root, card)
    order = experiments.order_of(experiment, examples)
    copies = 2 + COPIES[training.optimizer.type] + training.ema.enabled
    return Inspection(
        parameters=parameters,
        tokens=model.num_tokens,
        train_examples=examples,
        steps_per_epoch=order.steps_per_epoch,
        num_steps=experiments.steps_of(training, order.steps_per_epoch),
        state_bytes=parameters * FP32 * copies,
        activation_bytes=activations,
        kernels=model.kernels,
    )


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
