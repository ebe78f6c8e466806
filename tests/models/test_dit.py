import math

import pytest
import torch
from diffusers import DiTTransformer2DModel
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Caption, Categorical, Conditioning, Numeric
from signal_diffusion.models.dit import DiT, DiTArchitecture
from signal_diffusion.models.flops import forward_flops

LABEL = Categorical("label", ("relaxed", "alert"))
AGE = Numeric("age", 40.0, 15.0)
TEXT = Caption("caption", ("", "a yawn"), tokens=torch.ones(2, 3, 4), pooled=torch.linspace(-1, 1, 12).reshape(2, 6))
TINY = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8}


def tiny(
    *, shape=(3, 8, 16), patch_size=(4, 2), attributes=(LABEL,), trained=True, electrode_rows=False, **architecture
):
    """A small network; a `trained` one has random weights everywhere, because initially most have no effect."""
    torch.manual_seed(0)
    table = DiTArchitecture(**TINY | architecture, patch_size=patch_size)
    model = DiT(table, shape=shape, attributes=attributes, electrode_rows=electrode_rows)
    if trained:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def inputs(model_shape=(3, 8, 16), *, batch=2):
    generator = torch.Generator().manual_seed(1)
    cond = Conditioning({"label": torch.arange(batch) % 2, "age": torch.linspace(20, 60, batch)})
    return torch.randn(batch, *model_shape, generator=generator), torch.linspace(0.1, 0.9, batch), cond


def plain_dit(weights, x, t, label, *, heads, patch_size):
    """The paper's DiT with QK-norm, in the plainest code, sometimes token by token."""

    def linear(name, value):
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def silu(value):
        return value / (1 + torch.exp(-value))

    def layer_norm(value):
        centred = value - value.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

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
        q = layer_norm(q) * weights[f"{layer}.query_norm"]
        k = layer_norm(k) * weights[f"{layer}.key_norm"]
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


def test_predictions_equal_the_plain_formulas():
    model = tiny().double()
    x, t, cond = inputs()
    x, t = x.double(), t.double()

    expected = plain_dit(model.state_dict(), x, t, cond.attributes["label"], heads=2, patch_size=(4, 2))

    torch.testing.assert_close(model(x, t, cond), expected, rtol=1e-3, atol=1e-4)


def like_diffusers(model, reference):
    """The weights of `model`, under the names and in the order of diffusers' DiT with patches of 2 × 2."""
    width, weights = model.patch_embedding.out_features, model.state_dict()
    found = {}
    for kind in ("weight", "bias"):
        patches = weights[f"patch_embedding.{kind}"]
        found[f"pos_embed.proj.{kind}"] = patches.reshape(reference.pos_embed.proj.state_dict()[kind].shape)
        found[f"proj_out_1.{kind}"] = weights[f"modulation.{kind}"]
        # diffusers has the channels of a patch's pixels last
        found[f"proj_out_2.{kind}"] = weights[f"output.{kind}"].unflatten(0, (3, 4)).transpose(0, 1).flatten(0, 1)
        for i in range(2):
            layer, block = f"layers.{i}", f"transformer_blocks.{i}"
            found[f"{block}.norm1.linear.{kind}"] = weights[f"{layer}.modulation.{kind}"]
            for name, part in zip("qkv", weights[f"{layer}.qkv.{kind}"].split(width), strict=True):
                found[f"{block}.attn1.to_{name}.{kind}"] = part
            found[f"{block}.attn1.to_out.0.{kind}"] = weights[f"{layer}.projection.{kind}"]
            found[f"{block}.ff.net.0.proj.{kind}"] = weights[f"{layer}.mlp.0.{kind}"]
            found[f"{block}.ff.net.2.{kind}"] = weights[f"{layer}.mlp.2.{kind}"]
            embedding = f"{block}.norm1.emb"
            found[f"{embedding}.timestep_embedder.linear_1.{kind}"] = weights[f"time_embedding.mlp.0.{kind}"]
            found[f"{embedding}.timestep_embedder.linear_2.{kind}"] = weights[f"time_embedding.mlp.2.{kind}"]
            found[f"{embedding}.class_embedder.embedding_table.weight"] = weights[
                "conditioning.embeddings.0.table.weight"
            ]
            found[f"{block}.attn1.norm_q.weight"] = weights[f"{layer}.query_norm"]
            found[f"{block}.attn1.norm_k.weight"] = weights[f"{layer}.key_norm"]
    return found


def diffusers_dit():
    """DiTTransformer2DModel of the sizes of `tiny`, with the paper's time embedding and our QK-norm."""
    reference = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=2,
        norm_eps=1e-6,
    )
    for block in reference.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
        block.attn1.norm_q, block.attn1.norm_k = (torch.nn.LayerNorm(8, eps=1e-6, bias=False) for _ in range(2))
    return reference.eval()


def test_predictions_equal_those_of_diffusers():
    model, reference = tiny(shape=(3, 8, 8), patch_size=(2, 2)), diffusers_dit()
    reference.load_state_dict(like_diffusers(model, reference), strict=True)
    columns_first = torch.cat(reference.pos_embed.pos_embed.chunk(2, dim=-1)[::-1], dim=-1)[0]
    torch.testing.assert_close(columns_first, model.positions)
    reference.pos_embed.pos_embed = model.positions[None]
    x, t, cond = inputs((3, 8, 8))

    expected = reference(x, 1000 * t, class_labels=cond.attributes["label"]).sample

    torch.testing.assert_close(model(x, t, cond), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "patch_size", "num_tokens"),
    [((1, 20, 2048), (1, 8), 5120), ((3, 8, 16), (2, 16), 4), ((16, 7, 5), (7, 1), 5)],
)
def test_any_shape_and_any_patch_that_divides_it_are_accepted(shape, patch_size, num_tokens):
    model = tiny(shape=shape, patch_size=patch_size, num_layers=1)
    x, t, cond = inputs(shape, batch=1)

    assert model.num_tokens == num_tokens
    assert model(x, t, cond).shape == x.shape


def test_overlapping_patches_see_and_change_half_of_their_neighbours():
    # without attention between tokens, what one sees and changes is its patch
    model = tiny(patch_size=(0, 4), patch_overlap=True, electrode_rows=True, num_layers=1).double()
    with torch.no_grad():
        model.layers[0].projection.weight.zero_()
    x, t, cond = inputs(batch=1)
    x = x.double().requires_grad_()
    token = torch.zeros_like(x)
    token[..., 8] = 1  # the first column of the third patch, of which the second has a share

    (seen,) = torch.autograd.grad((model(x, t.double()[:1], cond) * token).sum(), x)

    columns = seen.abs().sum((0, 1, 2)).nonzero().flatten().tolist()
    assert columns == [*range(2, 14)]  # columns 2 to 9 of the second patch, 6 to 13 of the third


def test_patches_of_one_column_cannot_overlap():
    with pytest.raises(UserError, match=r"^patch_overlap: patches of 1 column have no half"):
        tiny(patch_size=(4, 1), patch_overlap=True)


def test_input_power_is_that_of_each_example_in_each_channel_of_its_tokens():
    # 16 tokens whose first channel is ±3 and whose others are zero; the second example is silent
    model = tiny(shape=(1, 1, 16), patch_size=(1, 1), num_layers=1, input_power=True)
    told, condition = [], []
    model.power.register_forward_hook(lambda _, inputs, output: told.append((inputs[0], output)))
    model.modulation.register_forward_hook(lambda _, inputs, __: condition.append(inputs[0]))
    with torch.no_grad():
        model.patch_embedding.weight.zero_()[0] = 3
        model.patch_embedding.bias.zero_()
    x = torch.stack([torch.tensor([1.0, -1.0]).repeat(8).reshape(1, 1, 16), torch.zeros(1, 1, 16)])
    _, t, cond = inputs((1, 1, 16))

    model(x, t, cond)

    ((power, embedded),) = told
    assert power[0, 0].item() == pytest.approx(math.log(9 + 1e-4))
    assert power[0, 1:].tolist() == pytest.approx([math.log(1e-4)] * 15)
    assert power[1].tolist() == pytest.approx([math.log(1e-4)] * 16)
    expected = torch.nn.functional.silu(model.time_embedding(t) + model.conditioning(cond) + embedded)
    torch.testing.assert_close(condition[0], expected)


@pytest.mark.parametrize("dims", [(-2,), (-1,)])
def test_rows_and_columns_have_positions(dims):
    model = tiny(patch_size=(1, 1))
    x, t, cond = inputs()

    assert not torch.allclose(model(x.roll(1, dims), t, cond), model(x, t, cond).roll(1, dims), atol=1e-3)


def test_electrodes_have_no_order_except_by_their_embeddings():
    model = tiny(shape=(1, 5, 16), patch_size=(1, 4), electrode_rows=True).double()
    x, t, cond = inputs((1, 5, 16))
    x, t, order = x.double(), t.double(), torch.tensor([3, 0, 4, 1, 2])
    expected = model(x, t, cond)[:, :, order]

    same_embeddings = model(x[:, :, order], t, cond)
    model.electrodes.weight.data = model.electrodes.weight[order]

    torch.testing.assert_close(model(x[:, :, order], t, cond), expected)
    assert (same_embeddings - expected).norm() > 0.1 * expected.norm()


def test_time_keeps_its_order_if_rows_are_electrodes():
    model = tiny(shape=(1, 5, 16), patch_size=(1, 4), electrode_rows=True)
    x, t, cond = inputs((1, 5, 16))

    assert not torch.allclose(model(x.roll(4, -1), t, cond), model(x, t, cond).roll(4, -1), atol=1e-3)


def test_patches_of_some_electrodes_are_refused():
    with pytest.raises(UserError, match=r"\[4, 2\] spans 4 of \d+ electrodes, .* patch_size = \[1, 2\] or \[0, 2\]"):
        tiny(electrode_rows=True)


def test_a_patch_may_span_all_electrodes():
    model = tiny(shape=(1, 5, 16), patch_size=(0, 4), electrode_rows=True)
    x, t, cond = inputs((1, 5, 16))

    assert model.num_tokens == 4
    assert model(x, t, cond).shape == x.shape
    assert not torch.allclose(model(x.roll(4, -1), t, cond), model(x, t, cond).roll(4, -1), atol=1e-3)


def test_all_positions_differ():
    positions = tiny(shape=(1, 20, 64), patch_size=(1, 8), num_layers=1).positions

    assert (torch.cdist(positions, positions) + torch.eye(160)).min() > 0.01


def test_the_default_size_has_the_expected_number_of_parameters():
    with torch.device("meta"):
        model = DiT(DiTArchitecture(), shape=(1, 64, 64), attributes=(LABEL, AGE))

    assert 290e6 < sum(parameter.numel() for parameter in model.parameters()) < 296e6
    assert all(parameter.is_meta for parameter in model.parameters())


def test_flops_are_those_of_the_matrix_products():
    model = tiny()  # 16 tokens of 24 numbers, 16 channels, 2 layers
    x, _, cond = inputs(batch=1)
    per_token = 2 * 16 * (3 * 16 + 16 + 2 * 64)  # qkv, projection, feed-forward
    attention = 2 * 2 * 16 * 16 * 16  # scores and their product with v
    modulations = 2 * 16 * (2 * 6 * 16 + 2 * 16)
    time = 2 * (256 * 16 + 16 * 16)

    expected = 2 * (16 * per_token + attention) + 2 * (2 * 16 * 24 * 16) + modulations + time

    assert forward_flops(model, x, cond) == expected


def test_the_table_of_a_file_becomes_an_architecture():
    architecture = TypeAdapter(DiTArchitecture).validate_json('{"patch_size": [1, 8], "num_layers": 3}')

    assert architecture == DiTArchitecture(patch_size=(1, 8), num_layers=3)


@pytest.mark.parametrize(
    "table",
    [
        '{"patch_size": [-1, 4]}',
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
