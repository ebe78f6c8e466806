import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning import Categorical, Conditioning, Numeric
from signal_diffusion.models.dit import DiT, DiTArchitecture, patchify, unpatchify

LABEL = Categorical("label", ("relaxed", "alert"))
AGE = Numeric("age", 40.0, 15.0)
TINY = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


def tiny(*, shape=(3, 8, 16), patch_size=(4, 2), attributes=(LABEL,), trained=True, **architecture):
    """A small network; `trained` ones have random weights everywhere, as at first most contribute nothing."""
    torch.manual_seed(0)
    model = DiT(DiTArchitecture(**TINY | architecture, patch_size=patch_size), shape=shape, attributes=attributes)
    if trained:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def inputs(model_shape=(3, 8, 16), *, batch=2):
    generator = torch.Generator().manual_seed(1)
    cond = Conditioning({"label": torch.arange(batch) % 2, "age": torch.linspace(20, 60, batch)})
    return torch.randn(batch, *model_shape, generator=generator), torch.linspace(0.1, 0.9, batch), cond


def plain_dit(weights, x, t, label, *, heads, patch_size):
    """DiT of the paper with QK-norm, token by token where that is plainest."""

    def linear(name, value):
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def silu(value):
        return value / (1 + torch.exp(-value))

    def layer_norm(value):
        centred = value - value.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def rms_norm(value, scale):
        return scale * value / (value.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def gelu(value):
        return value / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)))

    (batch, channels, height, width), (ph, pw) = x.shape, patch_size
    corners = [(top, left) for top in range(0, height, ph) for left in range(0, width, pw)]
    tokens = torch.stack([x[:, :, i : i + ph, j : j + pw].flatten(1) for i, j in corners], dim=1)
    tokens = linear("patch_embedding", tokens)
    dim = tokens.shape[-1]
    omega = 10_000 ** (-torch.arange(dim // 4, dtype=x.dtype) / (dim // 4))
    for n, (top, left) in enumerate(corners):
        row, column = top / ph * omega, left / pw * omega
        tokens[:, n] = tokens[:, n] + torch.cat([row.sin(), row.cos(), column.sin(), column.cos()])

    angles = 1000 * t[:, None] * 10_000 ** (-torch.arange(128, dtype=x.dtype) / 128)
    c = linear("time_embedding.mlp.0", torch.cat([angles.cos(), angles.sin()], dim=1))
    c = linear("time_embedding.mlp.2", silu(c)) + weights["conditioning.embeddings.0.table.weight"][label]
    c = silu(c)[:, None]

    for layer in ("layers.0", "layers.1"):
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = linear(f"{layer}.modulation", c).split(dim, dim=-1)
        qkv = linear(f"{layer}.qkv", layer_norm(tokens) * (1 + scale_1) + shift_1)
        q, k, v = (part.reshape(batch, -1, heads, dim // heads) for part in qkv.split(dim, dim=-1))
        q, k = rms_norm(q, weights[f"{layer}.query_norm"]), rms_norm(k, weights[f"{layer}.key_norm"])
        scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / math.sqrt(dim // heads)
        mixed = torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).reshape(batch, -1, dim)
        tokens = tokens + gate_1 * linear(f"{layer}.projection", mixed)
        hidden = gelu(linear(f"{layer}.mlp.0", layer_norm(tokens) * (1 + scale_2) + shift_2))
        tokens = tokens + gate_2 * linear(f"{layer}.mlp.2", hidden)

    shift, scale = linear("modulation", c).split(dim, dim=-1)
    tokens = linear("output", layer_norm(tokens) * (1 + scale) + shift)
    out = torch.empty_like(x)
    for n, (top, left) in enumerate(corners):
        out[:, :, top : top + ph, left : left + pw] = tokens[:, n].reshape(batch, channels, ph, pw)
    return out


def test_same_weights_same_numbers_as_the_plain_formulas():
    model = tiny().double()
    x, t, cond = inputs()
    x, t = x.double(), t.double()

    expected = plain_dit(model.state_dict(), x, t, cond.attributes["label"], heads=2, patch_size=(4, 2))

    torch.testing.assert_close(model(x, t, cond), expected, rtol=1e-3, atol=1e-4)


def test_the_first_prediction_is_zero_and_has_the_shape_of_x():
    x, t, cond = inputs()

    prediction = tiny(trained=False)(x, t, cond)

    assert torch.equal(prediction, torch.zeros_like(x))


@pytest.mark.parametrize(
    ("shape", "patch_size", "num_tokens"),
    [((1, 20, 2048), (1, 8), 5120), ((3, 8, 16), (2, 16), 4), ((16, 7, 5), (7, 1), 5)],
)
def test_any_shape_and_any_patch_that_divides_it(shape, patch_size, num_tokens):
    model = tiny(shape=shape, patch_size=patch_size, num_layers=1)
    x, t, cond = inputs(shape, batch=1)

    assert model.num_tokens == num_tokens
    assert model(x, t, cond).shape == x.shape


@pytest.mark.parametrize("patch_size", [(4, 2), (1, 16), (8, 1)])
def test_unpatchify_undoes_patchify(patch_size):
    x, _, _ = inputs()

    assert torch.equal(unpatchify(patchify(x, patch_size), x.shape, patch_size), x)


@pytest.mark.parametrize("dims", [(-2,), (-1,)])
def test_rows_and_columns_have_places(dims):
    model = tiny(patch_size=(1, 1))
    x, t, cond = inputs()

    assert not torch.allclose(model(x.roll(1, dims), t, cond), model(x, t, cond).roll(1, dims), atol=1e-3)


def test_no_two_positions_are_alike():
    positions = tiny(shape=(1, 20, 64), patch_size=(1, 8), num_layers=1).positions

    assert (torch.cdist(positions, positions) + torch.eye(160)).min() > 0.01


@pytest.mark.parametrize("attributes", [(), (LABEL,), (LABEL, AGE)])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_every_parameter_has_a_gradient(attributes, trained, gradient_checkpointing):
    model = tiny(attributes=attributes, trained=trained)
    model.gradient_checkpointing = gradient_checkpointing
    x, t, cond = inputs()

    model(x, t, cond).square().sum().backward()

    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_gradient_checkpointing_gives_the_same_gradients_dropout_and_all():
    x, t, cond = inputs()
    gradients = []
    for gradient_checkpointing in [False, True]:
        model = tiny(dropout_rate=0.3)
        model.gradient_checkpointing = gradient_checkpointing
        torch.manual_seed(2)
        model(x, t, cond).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])

    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


def test_the_condition_and_its_absence_matter():
    model = tiny()
    x, t, cond = inputs(batch=1)
    null = cond.drop(torch.tensor([True]))
    other = Conditioning({"label": torch.tensor([1])})

    assert cond.attributes["label"].item() == 0
    predictions = [model(x, t, c) for c in (cond, null, other)]
    assert not any(torch.allclose(predictions[i], predictions[j]) for i, j in [(0, 1), (0, 2), (1, 2)])


def test_saved_and_loaded_into_a_fresh_model_gives_the_same_output_to_the_bit():
    x, t, cond = inputs()
    model = tiny(attributes=(LABEL, AGE))
    other = tiny(attributes=(LABEL, AGE), trained=False)

    other.load_state_dict(model.state_dict(), strict=True)

    assert torch.equal(other(x, t, cond), model(x, t, cond))


def test_bfloat16_autocast_stays_close_to_float32_and_leaves_the_parameters_alone():
    model = tiny()
    x, t, cond = inputs()
    exact = model(x, t, cond)

    with torch.autocast("cpu", torch.bfloat16):
        found = model(x, t, cond)
    found.float().square().sum().backward()

    assert (found.float() - exact).norm() < 0.03 * exact.norm()
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_the_real_size_is_counted_on_the_meta_device():
    with torch.device("meta"):
        model = DiT(DiTArchitecture(), shape=(1, 64, 64), attributes=(LABEL, AGE))

    assert 290e6 < sum(parameter.numel() for parameter in model.parameters()) < 296e6
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_table_of_a_file_becomes_an_architecture():
    architecture = TypeAdapter(DiTArchitecture).validate_json('{"patch_size": [1, 8], "num_layers": 3}')

    assert architecture == DiTArchitecture(patch_size=(1, 8), num_layers=3)


@pytest.mark.parametrize(
    "table",
    [
        '{"patch_size": [0, 4]}',
        '{"patch_size": [4]}',
        '{"num_layers": 0}',
        '{"num_layers": "3"}',
        '{"dropout_rate": 1.0}',
        '{"mlp_ratio": 0.0}',
        '{"num_layer": 3}',
    ],
)
def test_a_wrong_value_or_key_is_refused(table):
    with pytest.raises(ValidationError):
        TypeAdapter(DiTArchitecture).validate_json(table)


@pytest.mark.parametrize(
    ("patch_size", "head_dim", "message"),
    [((3, 4), 8, r"\[3, 4\] does not divide examples of 64 × 64"), ((4, 4), 7, "= 14")],
)
def test_sizes_that_do_not_fit_are_named(patch_size, head_dim, message):
    with pytest.raises(UserError, match=message):
        tiny(shape=(1, 64, 64), patch_size=patch_size, attention_head_dim=head_dim)


@pytest.mark.slow
def test_a_block_compiles_into_one_graph_with_the_same_output():
    model = tiny()
    x, t, cond = inputs()
    expected = model(x, t, cond)

    for block in model.blocks:
        block.compile(fullgraph=True)

    torch.testing.assert_close(model(x, t, cond), expected, rtol=1e-3, atol=1e-4)
