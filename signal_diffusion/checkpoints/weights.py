"""Load the weights of a checkpoint into a model."""

from __future__ import annotations

import textwrap
from pathlib import Path

from torch import nn

from signal_diffusion.checkpoints.manifest import EMA_WEIGHTS, WEIGHTS
from signal_diffusion.checkpoints.verifying import DAMAGED
from signal_diffusion.errors import UserError
from signal_diffusion.models.lora import frozen_state, is_lora_weight
from signal_diffusion.models.sharding import split_like
from signal_diffusion.untrusted import read_tensors

__all__ = ["load_weights"]

MAX_REASON = 200  # characters of torch's list of mismatched tensors


def load_weights(model: nn.Module, checkpoint: Path, *, use_ema: bool) -> bool:
    """Load the weights of a verified checkpoint strictly: the averaged ones if `use_ema` and the checkpoint has them.

    Returns whether the averaged weights were loaded. A model with LoRA loads its trained weights, and keeps the
    pretrained ones.

    Raises
    ------
    UserError
        If names or sizes are of another architecture, or only one of checkpoint and model has LoRA.
    """
    weights = read_tensors(checkpoint / WEIGHTS, DAMAGED)
    if averaged := use_ema and (checkpoint / EMA_WEIGHTS).is_file():
        averages = read_tensors(checkpoint / EMA_WEIGHTS, DAMAGED)
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad and name in weights}
        if lacking := sorted(trained - averages.keys()):
            raise UserError(f"{checkpoint / EMA_WEIGHTS}: lacks the average of {lacking[0]}; {DAMAGED}")
        weights |= averages
    frozen = frozen_state(model)
    if any(map(is_lora_weight, weights)) != bool(frozen):
        raise UserError(
            f"{checkpoint / WEIGHTS}: trained {'without' if frozen else 'with'} LoRA, but the model is "
            f"{'with' if frozen else 'without'} LoRA; set model.lora as in that run, or start a new run"
        )
    try:
        if surplus := sorted(weights.keys() & frozen.keys()):
            raise RuntimeError(f"{surplus[0]} is a pretrained weight, which a run with LoRA does not save")
        own = model.state_dict()
        weights = {name: split_like(value, own[name]) if name in own else value for name, value in weights.items()}
        model.load_state_dict(weights | frozen)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"{checkpoint / WEIGHTS}: weights of another architecture: {textwrap.shorten(first, MAX_REASON)}"
        ) from None
    return averaged
