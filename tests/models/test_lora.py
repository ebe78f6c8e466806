"""LoRA: initially no change, then the paper's formula; only adapters and `conditioning` are trained."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from signal_diffusion.checkpoints import load_weights
from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.lora import add_lora, frozen_state, trained_state
from signal_diffusion.models.registry import BACKBONES
from tests.models.tiny import tiny

TRANSFORMERS = [name for name, backbone in BACKBONES.items() if backbone.builder.lora_targets]


def pretrained(backbone: str = "dit") -> Denoiser:
    """A small network with random weights everywhere, as after training."""
    model = tiny(backbone, (3, 32, 32), conditioning="class")
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return model.eval()


def with_lora(model: Denoiser, **settings: object) -> Denoiser:
    """A copy of the model with fresh adapters."""
    adapted = copy.deepcopy(model)
    torch.manual_seed(4)
    add_lora(adapted, schema.Lora(enabled=True, **settings))  # type: ignore[arg-type]
    return adapted.eval()


def trained(model: Denoiser) -> Denoiser:
    """The model with random updates instead of zero."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def inputs() -> tuple[Tensor, Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(2, 3, 32, 32, generator=generator)
    return x, torch.tensor([0.2, 0.7]), Conditioning({"label": torch.tensor([0, 1])})


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_fresh_adapters_change_nothing_and_trained_ones_do(backbone: str) -> None:
    model = pretrained(backbone)
    adapted = with_lora(model, rank=2)

    expected = model(*inputs())

    assert torch.equal(adapted(*inputs()), expected)
    assert (trained(adapted)(*inputs()) - expected).norm() > 1e-3 * expected.norm()


@pytest.mark.parametrize("backbone", TRANSFORMERS)
def test_only_adapters_and_conditioning_are_trained(backbone: str) -> None:
    model = pretrained(backbone)
    adapted = trained(with_lora(model, rank=2))

    adapted(*inputs()).square().sum().backward()

    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trainable == {name for name, parameter in adapted.named_parameters() if parameter.grad is not None}
    assert {name for name in trainable if "lora_" not in name} == {
        name for name, _ in model.named_parameters() if name.startswith("conditioning.")
    }
    layers = {name.partition(".lora_")[0] for name in trainable if "lora_" in name}
    names = {id(module): name for name, module in model.named_modules()}
    assert layers == {
        names[id(module)]
        for module in model.blocks.modules()
        if isinstance(module, nn.Linear)
        and f".{names[id(module)]}".endswith(tuple(f".{t}" for t in model.lora_targets))
    }
    assert len(layers) >= 2 * len(model.lora_targets)


def test_an_update_is_the_product_of_two_matrices_scaled_by_alpha_over_rank() -> None:
    model = pretrained()
    adapted = trained(with_lora(model, rank=2, alpha=6.0, target_modules=("qkv",)))
    weights = adapted.state_dict()

    for name, module in model.named_modules():
        if name.endswith(".qkv"):
            a, b = (weights[f"{name}.lora_{matrix}.default.weight"] for matrix in "AB")
            assert a.shape[0] == b.shape[1] == 2 and a.dtype == b.dtype == torch.float32
            module.weight.data += 6.0 / 2 * b @ a

    torch.testing.assert_close(adapted(*inputs()), model(*inputs()), rtol=1e-4, atol=1e-4)


def test_layers_outside_the_blocks_can_be_adapted_by_name() -> None:
    names = trained_state(with_lora(pretrained(), target_modules=("patch_embedding", "layers.1.qkv")))

    adapted = {name.partition(".lora_")[0] for name in names if "lora_" in name}
    assert adapted == {"patch_embedding", "layers.1.qkv"}


def test_unusable_targets_are_reported_in_one_line() -> None:
    with pytest.raises(UserError, match=r"target_modules: no linear layer ends in 'kv'; expected .* such as"):
        with_lora(pretrained(), target_modules=("qkv", "kv"))
    with pytest.raises(UserError, match="LoRA needs a transformer"):
        with_lora(pretrained("unet"), target_modules=("to_q",))


def test_trained_weights_load_into_the_same_base_model(tmp_path: Path) -> None:
    model = pretrained()
    first, second = trained(with_lora(model)), with_lora(model)
    save_file(trained_state(first), tmp_path / "model.safetensors")

    load_weights(second, tmp_path, use_ema=True)

    assert torch.equal(first(*inputs()), second(*inputs()))
    assert trained_state(first).keys() | frozen_state(first).keys() == first.state_dict().keys()
    assert any(name.startswith("conditioning.") for name in trained_state(first))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda state: state.pop("layers.1.qkv.lora_A.default.weight"), "layers.1.qkv.lora_A.default.weight"),
        (lambda state: state.pop("conditioning.embeddings.0.table.weight"), "conditioning.embeddings.0.table.weight"),
        (lambda state: state.update({"layers.2.qkv.lora_A.default.weight": torch.ones(2)}), "layers.2.qkv.lora_A"),
        (lambda state: state.update({"output.bias": torch.ones(48)}), "output.bias"),
        (lambda state: state.update({"layers.0.qkv.lora_A.default.weight": torch.ones(2, 2)}), "layers.0.qkv.lora_A"),
    ],
    ids=["adapter missing", "embedding missing", "adapter unknown", "frozen weight", "other size"],
)
def test_a_missing_unknown_or_misshapen_tensor_is_named(change, expected: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = with_lora(pretrained())
    state = trained_state(model)
    change(state)
    save_file(state, tmp_path / "model.safetensors")

    with pytest.raises(UserError, match="weights of another architecture") as caught:
        load_weights(model, tmp_path, use_ema=False)

    assert len(caught.value.lines) == 1 and expected in str(caught.value)


def test_weights_with_lora_and_models_without_do_not_mix(tmp_path: Path) -> None:
    model = pretrained()
    adapted = with_lora(model)
    for weights, other, expected in (
        (trained_state(adapted), model, "trained with LoRA, but the model is without LoRA"),
        (trained_state(model), adapted, "trained without LoRA, but the model is with LoRA;"),
    ):
        save_file(weights, tmp_path / "model.safetensors")
        with pytest.raises(UserError, match=expected):
            load_weights(other, tmp_path, use_ema=False)


@pytest.mark.parametrize(
    "backbone", ["dit", pytest.param("hourglass", marks=pytest.mark.slow), pytest.param("sd35", marks=pytest.mark.slow)]
)
def test_a_block_with_adapters_compiles_into_one_graph(backbone: str) -> None:
    model = trained(with_lora(pretrained(backbone)))
    expected = model(*inputs())

    for block in model.blocks:
        block.compile(backend="eager", fullgraph=True)

    torch.testing.assert_close(model(*inputs()), expected)
