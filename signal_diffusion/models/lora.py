"""LoRA: low-rank adapters of a pretrained transformer (Hu et al., https://arxiv.org/abs/2106.09685), through peft.

The pretrained weights are frozen and not part of checkpoints. Only the low-rank updates B·A of linear layers, and all
of `conditioning`, are trained and saved.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.denoiser import Denoiser

__all__ = ["add_lora", "frozen_state", "is_lora_weight", "merged_state", "trained_state"]


def add_lora(model: Denoiser, config: schema.Lora) -> None:
    """Add a LoRA adapter to linear layers of `model`, in place, and freeze all other weights but `conditioning`.

    The updates are initially zero (B = 0). A is drawn from the global generator. Without `target_modules`, the adapted
    layers are those in the blocks that the backbone lists in `lora_targets`.

    Raises
    ------
    UserError
        If the model is not a transformer, or a target matches none of its linear layers.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds to import

    names = _targets(model, config.target_modules)
    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # a factor, which need not be an integer
        lora_dropout=config.dropout,
        target_modules=names,
        bias="none",
    )
    with unset_fake_temporarily():  # `config check` builds models of fake tensors, which peft cannot fill
        inject_adapter_in_model(settings, model, low_cpu_mem_usage=True)
    for name, parameter in list(model.named_parameters()):
        if is_lora_weight(name):
            _initialise(model.get_submodule(name.rpartition(".")[0]), name)
        else:
            parameter.requires_grad_(_is_trained(name))


def trained_state(model: nn.Module) -> dict[str, Tensor]:
    """The part of the model's state dict that training changes: with LoRA its adapters and `conditioning`, else all."""
    state = model.state_dict()
    return {name: value for name, value in state.items() if _is_trained(name)} if _has_lora(state) else state


def frozen_state(model: nn.Module) -> dict[str, Tensor]:
    """The part of the model's state dict that training with LoRA leaves unchanged; empty without LoRA."""
    state = model.state_dict()
    return {name: value for name, value in state.items() if not _is_trained(name)} if _has_lora(state) else {}


@torch.no_grad()
def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict of an equal model without LoRA: W + alpha / rank · B·A in place of W for each adapted layer."""
    state = model.state_dict()
    if not _has_lora(state):
        return state
    from peft.tuners.lora import Linear

    merged = {name.replace(".base_layer.", "."): value for name, value in state.items() if not is_lora_weight(name)}
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            for adapter in module.active_adapters:
                merged[f"{name}.weight"] = merged[f"{name}.weight"] + module.get_delta_weight(adapter)
    return merged


def is_lora_weight(name: str) -> bool:
    """Whether a name in a state dict is that of a LoRA adapter's weight."""
    return any(part.startswith("lora_") for part in name.split("."))


def _initialise(matrix: nn.Module, name: str) -> None:
    """Initialise B to 0 and A like any linear layer, in float32 whatever the type of the adapted layer."""
    assert isinstance(matrix, nn.Linear)
    matrix.weight = nn.Parameter(torch.zeros(matrix.weight.shape))
    if "lora_A" in name:
        nn.init.kaiming_uniform_(matrix.weight, a=math.sqrt(5))


def _is_trained(name: str) -> bool:
    return is_lora_weight(name) or name.startswith("conditioning.")


def _has_lora(state: dict[str, Tensor]) -> bool:
    return any(map(is_lora_weight, state))


def _targets(model: Denoiser, wanted: tuple[str, ...]) -> list[str]:
    """Names of the linear layers that end in one of `wanted`, or, by default, of `lora_targets` inside the blocks."""
    if not model.lora_targets:
        raise UserError("[model.lora] enabled: LoRA needs a transformer, and this backbone is not one; set it to false")
    in_blocks = {id(module) for module in model.blocks.modules()}
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not name.startswith("conditioning.")
    }
    candidates = [name for name, module in linear.items() if wanted or id(module) in in_blocks]
    found: list[str] = []
    for target in wanted or model.lora_targets:
        matches = [name for name in candidates if f".{name}".endswith(f".{target}")]
        if not matches:
            known = sorted({name.rpartition(".")[2] for name in linear})
            raise UserError(
                f"[model.lora] target_modules: no linear layer ends in {target!r}; expected endings of layer names, "
                f"such as {listed(known)}"
            )
        found += [name for name in matches if name not in found]
    return found
