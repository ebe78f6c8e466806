import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Categorical, Conditioning, Numeric
from signal_diffusion.models.hourglass import Hourglass, HourglassArchitecture

LABEL = Categorical("label", ("relaxed", "alert"))
AGE = Numeric("age", 40.0, 15.0)
TINY = {
    "depths": (1, 2),
    "widths": (16, 32),
    "kernel_sizes": (3, 0),
    "attention_head_dim": 16,
    "patch_size": (2, 2),
    "mapping_width": 24,
}
SERIES = {"shape": (1, 5, 32), "patch_size": (1, 4), "electrode_rows": True}


def tiny(*, shape=(3, 8, 16), attributes=(LABEL,), electrode_rows=False, trained=True, **architecture):
    """A small network; a `trained` one has random weights everywhere, because initially most have no effect."""
    torch.manual_seed(0)
    table = HourglassArchitecture(**TINY | architecture)
    model = Hourglass(table, shape=shape, attributes=attributes, electrode_rows=electrode_rows)
    if trained:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def inputs(shape=(3, 8, 16), *, batch=2):
    generator = torch.Generator().manual_seed(1)
    cond = Conditioning({"label": torch.arange(batch) % 2, "age": torch.tensor([40.0, math.nan])[:batch]})
    return torch.randn(batch, *shape, generator=generator), torch.linspace(0.1, 0.9, batch), cond


def remove_positions(model):
    """Zero the position embedding, which the paper does not have."""
    for parameter in model.places.parameters():
        torch.nn.init.zeros_(parameter)


def plain_hourglass(weights, x, c, *, head_dim, patch_size, depths):
    """The paper's network, two levels of global attention, token by token; c embeds time and conditions."""

    def linear(name, value):
        return value @ weights[f"{name}.weight"].T

    def rms_norm(value, scale):
        return scale * value / (value.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def geglu(name, value):
        value, gate = linear(f"{name}.up", value).chunk(2, dim=-1)
        return linear(f"{name}.down", value * gate * (1 + torch.erf(gate / math.sqrt(2))) / 2)

    def rotated(value, row, column):
        """A token (B, heads, d) with the pairs (i, i + d/4) of each head rotated by row, then by column."""
        value, heads, pairs = value.clone(), value.shape[1], head_dim // 8
        for head in range(heads):
            for axis, position in enumerate((row, column)):
                for pair in range(pairs):
                    angle = position * math.pi * 10 ** ((pair * heads + head) / (pairs * heads))
                    i = axis * pairs + pair
                    a, b = value[:, head, i].clone(), value[:, head, i + 2 * pairs].clone()
                    value[:, head, i] = a * math.cos(angle) - b * math.sin(angle)
                    value[:, head, i + 2 * pairs] = a * math.sin(angle) + b * math.cos(angle)
        return value

    def attend(name, tokens):
        heads = {}
        for position, token in tokens.items():
            parts = linear(f"{name}.qkv", token).reshape(len(token), 3, -1, head_dim)
            q, k, v = (parts[:, i] for i in range(3))
            q, k = (part / (part.square().sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
            heads[position] = rotated(q, *position), rotated(k, *position), v
        scale = weights[f"{name}.log_scale"].exp()
        mixed = {}
        for position, (q, _, _) in heads.items():
            scores = torch.stack([scale * (q * k).sum(-1) for _, k, _ in heads.values()])
            values = torch.stack([v for _, _, v in heads.values()])
            mixed[position] = (scores.softmax(0)[..., None] * values).sum(0).flatten(1)
        return {position: linear(f"{name}.attention_output", value) for position, value in mixed.items()}

    def layer(name, tokens):
        scale = 1 + linear(f"{name}.attention_norm.scale", c)
        mixed = attend(name, {position: rms_norm(token, scale) for position, token in tokens.items()})
        tokens = {position: token + mixed[position] for position, token in tokens.items()}
        scale = 1 + linear(f"{name}.feed_forward_norm.scale", c)
        return {p: token + geglu(f"{name}.feed_forward", rms_norm(token, scale)) for p, token in tokens.items()}

    def level(name, depth, tokens):
        for i in range(depth):
            tokens = layer(f"{name}.{i}", tokens)
        return tokens

    (batch, channels, height, width), (ph, pw) = x.shape, patch_size
    c = rms_norm(c, weights["mapping.input_norm.weight"])
    for i in range(2):
        c = c + geglu(f"mapping.layers.{i}", rms_norm(c, weights[f"mapping.norms.{i}.weight"]))
    c = rms_norm(c, weights["mapping.output_norm.weight"])

    def position(top, left, rows, columns):
        half = max(height, width) / 2
        return (top + rows / 2 - height / 2) / half, (left + columns / 2 - width / 2) / half

    fine = [(top, left) for top in range(0, height, ph) for left in range(0, width, pw)]
    coarse = [(top, left) for top in range(0, height, 2 * ph) for left in range(0, width, 2 * pw)]
    outer = {}
    for top, left in fine:
        patch = x[:, :, top : top + ph, left : left + pw].permute(0, 2, 3, 1).flatten(1)
        embedding = weights["places.rows.weight"][top // ph] + weights["places.columns.weight"][left // pw]
        outer[position(top, left, ph, pw)] = linear("patch_embedding.projection", patch) + embedding
    outer = level("down.0", depths[0], outer)

    inner = {}
    for top, left in coarse:
        corners = [(top, left), (top, left + pw), (top + ph, left), (top + ph, left + pw)]
        joined = torch.cat([outer[position(*corner, ph, pw)] for corner in corners], dim=1)
        inner[position(top, left, 2 * ph, 2 * pw)] = linear("merges.0.projection", joined)
    inner = level("middle", depths[1], inner)

    share = weights["splits.0.share"]
    for top, left in coarse:
        corners = [(top, left), (top, left + pw), (top + ph, left), (top + ph, left + pw)]
        parts = linear("splits.0.projection", inner[position(top, left, 2 * ph, 2 * pw)]).chunk(4, dim=1)
        for corner, part in zip(corners, parts, strict=True):
            skip = outer[position(*corner, ph, pw)]
            outer[position(*corner, ph, pw)] = (1 - share) * skip + share * part
    outer = level("up.0", depths[0], outer)

    out = torch.empty_like(x)
    for top, left in fine:
        token = linear("output", rms_norm(outer[position(top, left, ph, pw)], weights["output_norm.weight"]))
        patch = token.reshape(batch, ph, pw, channels).permute(0, 3, 1, 2)
        out[:, :, top : top + ph, left : left + pw] = patch
    return out


@pytest.mark.parametrize(("shape", "patch_size"), [((3, 8, 12), (2, 2)), ((1, 6, 16), (1, 4))])
def test_predictions_equal_the_plain_formulas(shape, patch_size):
    model = tiny(shape=shape, patch_size=patch_size, kernel_sizes=(0, 0)).double()
    x, t, cond = inputs(shape)
    x, t = x.double(), t.double()
    c = model.time_embedding(t) + model.conditioning(cond)

    expected = plain_hourglass(model.state_dict(), x, c, head_dim=16, patch_size=patch_size, depths=(1, 2))

    torch.testing.assert_close(model(x, t, cond), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "patch_size", "electrode_rows", "levels", "num_tokens"),
    [
        ((1, 20, 2048), (1, 8), True, 3, 5120),
        ((1, 7, 48), (1, 4), True, 3, 84),
        ((2, 1, 8), (1, 8), True, 1, 1),
        ((3, 12, 20), (2, 2), False, 2, 60),
        ((16, 7, 5), (7, 1), False, 1, 5),
    ],
)
def test_any_shape_that_patches_and_merges_divide_is_accepted(shape, patch_size, electrode_rows, levels, num_tokens):
    sizes = {"depths": (1,) * levels, "widths": (16,) * levels, "kernel_sizes": (3, 5, 0)[-levels:]}
    model = tiny(shape=shape, patch_size=patch_size, electrode_rows=electrode_rows, **sizes)
    x, t, cond = inputs(shape, batch=1)

    assert model.num_tokens == num_tokens
    assert model(x, t, cond).shape == x.shape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"shape": (1, 60, 64)}, r"\[2, 2\] with the 2 merges .* 60 × 64: expected .* multiples of 8 × 8"),
        ({"shape": (1, 64, 66)}, "66: expected"),
        ({"patch_size": (1, 8), "shape": (1, 20, 2064), "electrode_rows": True}, "multiples of 1 × 32"),
        ({"shape": (1, 20, 2048), "electrode_rows": True}, r"spans 2 of 20 electrodes.*use patch_size = \[1, 2\]"),
        ({"widths": (64, 128)}, "depths 3, widths 2, kernel_sizes 3; expected the same number"),
        ({"widths": (64, 100, 256)}, "widths has 100: expected multiples of attention_head_dim = 64"),
        ({"kernel_sizes": (7, 6, 0)}, "kernel_sizes has 6: expected odd numbers"),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes, message):
    real = {name: getattr(HourglassArchitecture(), name) for name in TINY}

    with pytest.raises(UserError, match=message):
        tiny(**{"shape": (1, 64, 64)} | real | sizes)


@pytest.mark.parametrize("dims", [(-2,), (-1,)])
@pytest.mark.parametrize("embedded", [True, False])
def test_rows_and_columns_of_an_image_have_positions(dims, embedded):
    model = tiny(kernel_sizes=(0, 0))
    if embedded:  # remove the rotations, so that only the embedding is left
        for rotation in model.rotations:
            rotation.table[0], rotation.table[1] = 1, 0
    else:
        remove_positions(model)
    x, t, cond = inputs()

    moved = model(x.roll(4, dims), t, cond)  # by a token of the middle level

    assert not torch.allclose(moved, model(x, t, cond).roll(4, dims), rtol=1e-2)


def test_electrodes_are_identified_only_by_their_embedding():
    model = tiny(**SERIES)
    x, t, cond = inputs(SERIES["shape"])
    order = torch.tensor([3, 0, 4, 1, 2])
    expected = model(x, t, cond)[:, :, order]

    different = model(x[:, :, order], t, cond)
    with torch.no_grad():
        model.places.rows.weight.copy_(model.places.rows.weight[order])
    found = model(x[:, :, order], t, cond)

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(different, expected, rtol=1e-2)


def changed_by(model, x, t, cond, where):
    """Whether each token of the first example's prediction depends on the token `where` of x; (rows, columns)."""
    (row, column), (ph, pw) = where, model.patch_size
    other = x.clone()
    other[:, :, row * ph : (row + 1) * ph, column * pw : (column + 1) * pw] += 1
    difference = (model(other, t, cond) - model(x, t, cond))[0].abs().amax(0)
    return difference.unflatten(0, (-1, ph)).unflatten(2, (-1, pw)).amax((1, 3)) > 1e-6


def test_a_layer_reaches_as_far_as_its_kernel():
    x, t, cond = inputs((1, 16, 16))
    model = tiny(shape=(1, 16, 16), depths=(1,), widths=(16,), kernel_sizes=(3,))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[3:6, 2:5] = True

    assert torch.equal(changed_by(model, x, t, cond, (4, 3)), expected)


def test_a_layer_reaches_all_electrodes_but_only_nearby_times():
    x, t, cond = inputs(SERIES["shape"])
    model = tiny(**SERIES, depths=(1,), widths=(16,), kernel_sizes=(3,))
    expected = torch.zeros(5, 8, dtype=torch.bool)
    expected[:, 3:6] = True

    assert torch.equal(changed_by(model, x, t, cond, (1, 4)), expected)


def cosines(model, level=0):
    """Products of equal queries and keys for each pair of tokens, (H, W, H, W, heads)."""
    table = model.rotations[level]()
    return torch.einsum("chwnp,cijnp->hwijn", table, table)


@pytest.mark.parametrize("architecture", [{}, SERIES])
def test_attention_depends_only_on_relative_positions(architecture):
    found = cosines(tiny(**architecture))

    torch.testing.assert_close(found[:, 1:, :, 1:], found[:, :-1, :, :-1])
    torch.testing.assert_close(found[1:, :, 1:], found[:-1, :, :-1])
    assert (found[0, 0, 0, 0] - found[0, 0, 0, 1]).min() > 0.01


def test_equal_distances_rotate_equally_along_both_axes_at_any_aspect_ratio_of_examples_and_patches():
    square, wide, high = (cosines(tiny(shape=shape)) for shape in [(1, 32, 32), (1, 8, 32), (1, 32, 8)])
    flat = cosines(tiny(shape=(1, 8, 32), patch_size=(1, 4)))

    torch.testing.assert_close(wide, square[:4, :, :4])
    torch.testing.assert_close(high, wide.transpose(0, 1).transpose(2, 3))
    torch.testing.assert_close(flat[::2, :, ::2], wide[:, ::2, :, ::2])


def test_equal_distances_rotate_equally_in_all_levels():
    model = tiny(widths=(32, 32))

    outer, middle = cosines(model), cosines(model, level=1)

    torch.testing.assert_close(middle, outer[::2, ::2, ::2, ::2])


def test_blocks_are_the_layers_and_lora_adapts_four_matrices_of_each():
    model = tiny(depths=(2, 3))

    adapted = [name for name, _ in model.named_modules() if name.endswith(model.lora_targets)]

    assert len(model.blocks) == 2 + 3 + 2
    assert len(adapted) == 4 * 7
    assert not any(name.startswith("mapping") for name in adapted)


@pytest.mark.parametrize(
    ("shape", "sizes", "electrode_rows", "millions"),
    [((1, 64, 64), {}, False, 6.1), ((1, 20, 2048), {"patch_size": (1, 8)}, True, 6.0)],
)
def test_the_default_size_has_the_expected_number_of_parameters(shape, sizes, electrode_rows, millions):
    with torch.device("meta"):
        model = Hourglass(
            HourglassArchitecture(**sizes), shape=shape, attributes=(LABEL, AGE), electrode_rows=electrode_rows
        )

    assert abs(sum(parameter.numel() for parameter in model.parameters()) / 1e6 - millions) < 0.1
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_table_of_a_file_becomes_an_architecture():
    architecture = TypeAdapter(HourglassArchitecture).validate_json('{"depths": [1, 2], "patch_size": [1, 8]}')

    assert architecture == HourglassArchitecture(depths=(1, 2), patch_size=(1, 8))


@pytest.mark.parametrize(
    "table",
    [
        '{"patch_size": [-1, 4]}',
        '{"depths": []}',
        '{"depths": [2, 0]}',
        '{"kernel_sizes": [7, -1]}',
        '{"attention_head_dim": 12}',
        '{"mlp_ratio": 0.0}',
        '{"dropout_rate": 1.0}',
        '{"depth": [2, 2, 3]}',
    ],
)
def test_a_wrong_value_or_key_is_refused(table):
    with pytest.raises(ValidationError):
        TypeAdapter(HourglassArchitecture).validate_json(table)


@pytest.mark.parametrize(
    ("kernel_sizes", "kinds"), [((0, 0), {"attention"}), ((3, 0), {"attention", "neighbourhood attention"})]
)
def test_kernels_lists_only_the_kinds_of_attention_in_use(kernel_sizes, kinds):
    assert tiny(kernel_sizes=kernel_sizes).kernels.keys() == kinds
