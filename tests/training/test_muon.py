"""Muon beside AdamW: which weights each takes, the same steps as torch's own two, and an exact state."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.training.nonfinite import SkippingStep
from signal_diffusion.training.optimizers import build_optimizer
from signal_diffusion.training.state import resume_optimizer
from tests.models.tiny import conditions, tiny

SHAPE = (1, 3, 64)
RATE, DECAY = 1e-2, 0.1
TABLE = schema.Optimizer(type="muon", learning_rate=RATE, weight_decay=DECAY)
BY_MUON = {
    "dit": {"qkv", "projection", "mlp.0", "mlp.2"},
    "hourglass": {"qkv", "attention_output", "feed_forward.up", "feed_forward.down"},
    "localmamba": {"ss2d.in_proj", "ss2d.gate.layers.0", "ss2d.gate.layers.2", "ss2d.out_proj", "mlp.0", "mlp.2"},
    "sd35": {f"attn.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0", "to_add_out")}
    | {f"attn.add_{name}_proj" for name in "qkv"}
    | {f"attn2.{name}" for name in ("to_q", "to_k", "to_v", "to_out.0")}
    | {f"{name}.net.{layer}" for name in ("ff", "ff_context") for layer in ("0.proj", "2")},
    "unet": {"to_q", "to_k", "to_v", "to_out.0"},
}
"""Endings of the names of the layers of each backbone whose matrices Muon takes."""

every_backbone = pytest.mark.parametrize("backbone", BACKBONES)


def network(backbone: str = "dit") -> Denoiser:
    """With weights that all have an effect."""
    model = tiny(backbone, SHAPE, conditioning="attributes", electrode_rows=True)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def put_gradients(model: nn.Module, step: int, factor: float = 1.0) -> dict[str, Tensor]:
    """Set the same random gradients for each step, and return them by name."""
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.grad = factor * torch.randn(parameter.shape, generator=generator)
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def copies(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The weights and the state of an optimizer."""
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = [optimizer.state[weight][name] for weight in weights for name in optimizer.state[weight]]
    return [each.detach().clone() for each in (*weights, *state)]


@every_backbone
def test_muon_takes_the_matrices_that_blocks_apply_to_tokens_and_adamw_every_other_weight(backbone: str) -> None:
    model = network(backbone)
    names = {id(weight): name for name, weight in model.named_parameters()}
    hidden, *others = build_optimizer(model, TABLE).param_groups

    found = {names[id(weight)].removesuffix(".weight") for weight in hidden["params"]}

    assert all(name.endswith(tuple(f".{each}" for each in BY_MUON[backbone])) for name in found)
    assert all(any(name.endswith(f".{each}") for name in found) for each in BY_MUON[backbone])
    assert sorted(map(id, (p for g in (hidden, *others) for p in g["params"]))) == sorted(names)
    assert [group["weight_decay"] for group in (hidden, *others)] == [DECAY, DECAY, 0.0]


@every_backbone
def test_the_layers_left_to_adamw_in_blocks_are_those_whose_input_has_no_tokens(backbone: str) -> None:
    model, inputs = network(backbone), {}
    linear = {name: module for name, module in model.blocks.named_modules() if isinstance(module, nn.Linear)}
    for name, module in linear.items():
        module.register_forward_hook(lambda _, x, __, name=name: inputs.update({name: x[0].ndim}))
    model(torch.randn(2, *SHAPE), torch.tensor([0.1, 0.9]), conditions("attributes", 2))

    assert {name for name, ndim in inputs.items() if ndim == 2} == {
        name for name in inputs if name.endswith(model.condition_layers)
    }
    assert 2 in inputs.values() and max(inputs.values()) > 2


def test_steps_are_those_of_torchs_two_optimizers_to_the_bit() -> None:
    ours, plain = network(), network()
    optimizer = build_optimizer(ours, TABLE)
    hidden = plain.hidden_matrices
    others = [each for each in plain.parameters() if id(each) not in set(map(id, hidden))]
    decayed = [each for each in others if each.ndim == 2 and each is not plain.electrodes.weight]  # type: ignore[union-attr]
    decayed = [each for each in decayed if each is not plain.conditioning.embeddings[0].table.weight]  # type: ignore[index,union-attr]
    free = [each for each in others if id(each) not in set(map(id, decayed))]
    by_hand = (
        torch.optim.Muon(hidden, lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(decayed, lr=RATE, weight_decay=DECAY, fused=True),
        torch.optim.AdamW(free, lr=RATE, weight_decay=0.0, fused=True),
    )
    before = copy.deepcopy(ours.state_dict())

    for step in range(3):
        put_gradients(ours, step)
        put_gradients(plain, step)
        optimizer.step()
        for each in by_hand:
            each.step()

    torch.testing.assert_close(ours.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert not any(torch.equal(before[name], weight) for name, weight in ours.named_parameters())


def test_the_learning_rate_of_the_groups_is_that_of_both() -> None:
    model = network()
    optimizer = build_optimizer(model, TABLE)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model.state_dict())
    put_gradients(model, 0)
    optimizer.step()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_a_step_on_a_matrix_is_about_as_large_as_adamws() -> None:
    """The root mean square of AdamW's step is 0.2 to 0.4 of the learning rate, says the paper; Muon's is near 0.2."""
    model = network()
    optimizer = build_optimizer(model, schema.Optimizer(type="muon", learning_rate=RATE, weight_decay=0.0))
    weights = model.hidden_matrices
    before = [weight.detach().clone() for weight in weights]
    put_gradients(model, 0)
    optimizer.step()
    sizes = [((now - then).square().mean().sqrt() / RATE).item() for now, then in zip(weights, before, strict=True)]
    assert min(sizes) > 0.15 and max(sizes) < 0.25


@pytest.mark.parametrize("first", [False, True], ids=["in mid-run", "at the first step"])
def test_a_gradient_that_is_not_finite_changes_neither_weights_nor_state(first: bool) -> None:
    model = network()
    optimizer = build_optimizer(model, TABLE)
    skipping = SkippingStep(optimizer, torch.device("cpu"))

    def step(number: int, factor: float) -> None:
        skipping.guard(put_gradients(model, number, factor), number)
        optimizer.step()

    if not first:
        step(1, 1.0)
    before = copies(optimizer)
    step(2, float("nan"))
    torch.testing.assert_close(copies(optimizer), before, rtol=0, atol=0)
    assert skipping.num_skipped.item() == 1
    step(3, 1.0)
    assert not torch.equal(copies(optimizer)[0], before[0])


def test_a_restored_state_is_equal_to_the_bit_and_so_are_the_steps_after_it(tmp_path: Path) -> None:
    model = network()
    optimizer = build_optimizer(model, TABLE)
    for step in range(2):
        put_gradients(model, step)
        optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    other = copy.deepcopy(model)

    resumed = build_optimizer(other, TABLE)
    resume_optimizer(resumed, "muon", tmp_path, "muon")
    torch.testing.assert_close(copies(resumed), copies(optimizer), rtol=0, atol=0)

    for each in (model, other):
        put_gradients(each, 2)
    optimizer.step()
    resumed.step()
    torch.testing.assert_close(copies(resumed), copies(optimizer), rtol=0, atol=0)
    assert {each.dtype for each in copies(resumed)} == {torch.float32}


@pytest.mark.parametrize("damage", ["None", "Adam's moments", "another shape", "a group's settings"])
def test_a_state_that_does_not_fit_is_refused_in_one_line_or_replaced(damage: str, tmp_path: Path) -> None:
    model = network()
    optimizer = build_optimizer(model, TABLE)
    put_gradients(model, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    last = max(saved["state"])  # of AdamW
    match damage:
        case "None":
            saved["state"][0]["momentum_buffer"] = None
        case "Adam's moments":
            saved["state"][0] = saved["state"][last]
        case "another shape":
            saved["state"][0]["momentum_buffer"] = torch.zeros(2, 2)
        case "a group's settings":
            saved["param_groups"][-1]["momentum"] = 0.95
            saved["state"][last] = {"momentum_buffer": saved["state"][last]["exp_avg"]}
    torch.save(saved, tmp_path / "optimizer.pt")

    if damage == "None":
        resume_optimizer(optimizer, "muon", tmp_path, "muon")
        assert not optimizer.state[model.hidden_matrices[0]]["momentum_buffer"].any()
        return
    with pytest.raises(UserError, match=r"optimizer\.pt: is the state of another model") as caught:
        resume_optimizer(optimizer, "muon", tmp_path, "muon")
    assert len(caught.value.lines) == 1
