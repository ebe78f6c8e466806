"""What the trainer relies on in every backbone."""

import copy
from dataclasses import fields

import pytest
import torch

from signal_diffusion.models.registry import BACKBONES
from tests.models.tiny import conditions, tiny

SHAPES = {False: (3, 8, 16), True: (1, 3, 64)}
"""By `electrode_rows`: of images, and of time series of three electrodes."""
DROPOUT = {
    name: {field.name: 0.3 for field in fields(backbone.architecture) if field.name in ("dropout", "dropout_rate")}
    for name, backbone in BACKBONES.items()
}
"""The keys that turn dropout on; {} if a backbone has none."""
IDLE = {"sd35": ["add_q_proj.weight", "add_q_proj.bias", "norm_added_q.weight"]}
"""Parameters without effect: in the last block of sd35, conditions are attended to but attend to nothing."""

every_backbone = pytest.mark.parametrize("backbone", BACKBONES)
either_rows = pytest.mark.parametrize("electrode_rows", [False, True])


def slow_but(*fast):
    return [pytest.param(name, marks=[] if name in fast else pytest.mark.slow) for name in BACKBONES]


def trained(backbone, *, electrode_rows=False, conditioning="attributes", **architecture):
    """A small network with random weights everywhere, because initially most have no effect."""
    shape = SHAPES[electrode_rows]
    model = tiny(backbone, shape, conditioning=conditioning, electrode_rows=electrode_rows, **architecture)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


def inputs(electrode_rows=False, conditioning="attributes"):
    """Three examples; the last has no condition."""
    x = torch.randn(3, *SHAPES[electrode_rows], generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0.1, 0.5, 0.9]), conditions(conditioning, 3)


@pytest.mark.parametrize(
    ("conditioning", "electrode_rows"), [("none", True), ("class", False), ("caption", False), ("attributes", True)]
)
@every_backbone
def test_the_initial_prediction_is_zero_and_every_parameter_has_a_gradient(backbone, conditioning, electrode_rows):
    model = tiny(backbone, SHAPES[electrode_rows], conditioning=conditioning, electrode_rows=electrode_rows)
    x, t, cond = inputs(electrode_rows, conditioning)

    prediction = model(x, t, cond)
    (prediction - 1).square().sum().backward()

    assert torch.equal(prediction, torch.zeros_like(x))
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@either_rows
@every_backbone
def test_every_parameter_affects_the_prediction(backbone, electrode_rows):
    model = trained(backbone, electrode_rows=electrode_rows)
    x, t, cond = inputs(electrode_rows)

    model(x, t, cond).square().sum().backward()

    idle = [f"network.transformer_blocks.1.attn.{name}" for name in IDLE.get(backbone, [])]
    assert {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()} == set(idle)


@pytest.mark.parametrize(
    ("conditioning", "name"),
    [("class", "label"), ("caption", "caption"), ("attributes", "gender"), ("attributes", "age")],
)
@every_backbone
def test_time_conditions_and_missing_conditions_affect_the_prediction(backbone, conditioning, name):
    model = trained(backbone, conditioning=conditioning)
    x, _, cond = inputs(conditioning=conditioning)
    single = cond.drop_each({other: torch.tensor([True] * 3) for other in cond.attributes.keys() - {name}})

    found = model(x[[0] * 4], torch.tensor([0.3, 0.3, 0.3, 0.7]), single[[0, 1, 2, 0]]).flatten(1)

    assert torch.pdist(found).min() > 1e-3 * found[0].norm()


@every_backbone
def test_gradient_checkpointing_recomputes_blocks_with_identical_gradients_and_dropout(backbone):
    plain = trained(backbone, **DROPOUT.get(backbone, {}))
    checkpointed = copy.deepcopy(plain)
    checkpointed.checkpoint_gradients()
    x, t, cond = inputs()
    calls = [], []
    for model, seen in zip((plain, checkpointed), calls, strict=True):
        for module in model.blocks.modules():
            module.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        torch.manual_seed(2)
        model.train()(x, t, cond).square().sum().backward()

    gradients = [[parameter.grad for parameter in model.parameters()] for model in (plain, checkpointed)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert len(calls[1]) > len(calls[0])


@either_rows
@every_backbone
def test_bfloat16_autocast_is_close_to_float32_and_keeps_parameters_in_float32(backbone, electrode_rows):
    model = trained(backbone, electrode_rows=electrode_rows)
    x, t, cond = inputs(electrode_rows)
    exact = model(x, t, cond)

    with torch.autocast("cpu", torch.bfloat16):
        found = model(x, t, cond)
    found.float().square().sum().backward()

    assert (found.float() - exact).norm() < 0.03 * exact.norm()
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("conditioning", "electrode_rows"), [("caption", False), ("attributes", True)])
@every_backbone
def test_saving_and_loading_is_bit_identical(backbone, conditioning, electrode_rows):
    model = trained(backbone, electrode_rows=electrode_rows, conditioning=conditioning)
    other = tiny(backbone, SHAPES[electrode_rows], conditioning=conditioning, electrode_rows=electrode_rows)
    x, t, cond = inputs(electrode_rows, conditioning)

    other.load_state_dict(model.state_dict(), strict=True)

    assert torch.equal(other(x, t, cond), model(x, t, cond))


@pytest.mark.parametrize(
    ("conditioning", "electrode_rows"), [pytest.param("caption", False, marks=pytest.mark.slow), ("attributes", True)]
)
@pytest.mark.parametrize("backbone", slow_but("dit"))
def test_the_network_compiles_into_one_graph_with_the_same_output(backbone, conditioning, electrode_rows):
    model = trained(backbone, electrode_rows=electrode_rows, conditioning=conditioning)
    x, t, cond = inputs(electrode_rows, conditioning)

    found = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")(x, t, cond)

    torch.testing.assert_close(found, model(x, t, cond))


@pytest.mark.parametrize("checkpointed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("backbone", slow_but("hourglass", "localmamba"))
def test_each_block_compiles_into_one_graph_with_the_same_gradients(backbone, checkpointed):
    model = trained(backbone)
    compiled = copy.deepcopy(model)
    x, t, cond = inputs()
    if checkpointed:
        compiled.checkpoint_gradients()
    for block in compiled.blocks:
        block.compile(fullgraph=True, backend="eager")

    for each in (model, compiled):
        each(x, t, cond).square().sum().backward()

    gradients = [[parameter.grad for parameter in each.parameters()] for each in (model, compiled)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
