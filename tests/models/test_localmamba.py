import copy
import json
import math

import pytest
import torch
from mambapy.mamba import MambaBlock, MambaConfig
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.models import localmamba
from signal_diffusion.models.conditioning.attributes import Categorical, Conditioning, Numeric
from signal_diffusion.models.localmamba import SCANS_PER_BLOCK, LocalMamba, LocalMambaArchitecture
from signal_diffusion.models.scan_orders import scan_order
from signal_diffusion.models.selective_scan.operator import selective_scan_kernel
from signal_diffusion.training.optimizers import build_optimizer

LABEL = Categorical("label", ("relaxed", "alert"))
AGE = Numeric("age", 40.0, 15.0)
TINY = {"depths": (1, 2), "dims": (8, 12), "d_state": 3, "mlp_ratio": 2.0}
SHAPE = (3, 12, 20)  # 6 × 10 tokens, and 3 × 5 in the middle


def tiny(*, shape=SHAPE, attributes=(LABEL,), electrode_rows=False, trained=True, **architecture):
    """A small network; a `trained` one has random weights everywhere, because initially most have no effect."""
    torch.manual_seed(0)
    model = LocalMamba(
        LocalMambaArchitecture(**TINY | architecture),
        shape=shape,
        attributes=attributes,
        electrode_rows=electrode_rows,
    )
    if trained:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def inputs(shape=SHAPE, *, batch=2):
    generator = torch.Generator().manual_seed(1)
    cond = Conditioning({"label": torch.arange(batch) % 2, "age": torch.linspace(20, 60, batch)})
    return torch.randn(batch, *shape, generator=generator), torch.linspace(0.1, 0.9, batch), cond


def positions(direction, height, width):
    """The (row, column) of each token in the order of the scan, window by window."""
    kind, _, flip = direction.partition("_")
    if kind == "v":
        visited = [(i, j) for j in range(width) for i in range(height)]
    else:
        size = int(kind[1:]) if kind != "h" else max(height, width)
        visited = [
            (i, j)
            for top in range(0, height, size)
            for left in range(0, width, size)
            for i in range(top, min(top + size, height))
            for j in range(left, min(left + size, width))
        ]
    return visited[::-1] if flip else visited


def plain_ss2d(weights, x, directions, *, d_state):
    """SS2D with a gate per direction, token by token: (H, W, D) → (H, W, D)."""
    height, width, _ = x.shape
    inner = weights["in_proj.weight"].shape[0] // 2
    rank = weights["dt_proj"].shape[2]

    def silu(value):
        return value / (1 + torch.exp(-value))

    def layer_norm(name, value):
        centred = value - value.mean()
        scale = (centred.square().mean() + 1e-5).sqrt()
        return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(name, value):
        return weights[f"{name}.weight"] @ value + weights[f"{name}.bias"]

    projected = torch.einsum("ed,hwd->hwe", weights["in_proj.weight"], x)
    before, z = projected[..., :inner], projected[..., inner:]
    rows, columns = weights["conv.weight"].shape[2:]
    u = torch.empty_like(before)
    for i in range(height):
        for j in range(width):
            value = weights["conv.bias"].clone()
            for p in range(rows):
                for q in range(columns):
                    row, column = i + p - rows // 2, j + q - columns // 2
                    if 0 <= row < height and 0 <= column < width:
                        value += weights["conv.weight"][:, 0, p, q] * before[row, column]
            u[i, j] = silu(value)

    merged = torch.zeros_like(u)
    for k, direction in enumerate(directions):
        own = slice(k * inner, (k + 1) * inner)
        state, y = torch.zeros(inner, d_state, dtype=x.dtype), torch.empty_like(u)
        for i, j in positions(direction, height, width):
            selected = weights["x_proj"][k] @ u[i, j]
            b, c = selected[rank : rank + d_state], selected[rank + d_state :]
            step = torch.log1p(torch.exp(weights["dt_proj"][k] @ selected[:rank] + weights["dt_bias"][own]))
            decay = torch.exp(-step[:, None] * torch.exp(weights["a_log"][own]))
            state = decay * state + step[:, None] * b * u[i, j][:, None]
            y[i, j] = state @ c + weights["d"][own] * u[i, j]
        hidden = linear("gate.layers.0", layer_norm("gate.norm", y.mean((0, 1))))
        hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
        merged += y / (1 + torch.exp(-linear("gate.layers.2", hidden)))

    out = torch.empty_like(x)
    for i in range(height):
        for j in range(width):
            out[i, j] = weights["out_proj.weight"] @ (layer_norm("out_norm", merged[i, j]) * silu(z[i, j]))
    return out


@pytest.mark.parametrize("electrode_rows", [False, True])
@pytest.mark.parametrize("directions", [("h", "v_flip", "w2"), ("w7_flip", "v", "w2_flip", "h_flip")])
def test_the_scan_in_two_dimensions_equals_the_plain_formulas(directions, electrode_rows):
    sizes = {"shape": (1, 5, 3), "patch_size": (1, 1), "depths": (1,), "dims": (20,), "ssm_ratio": 0.5}
    model = tiny(**sizes, scan_directions=directions, electrode_rows=electrode_rows)
    ss2d = model.middle[0].ss2d.double()
    x = torch.randn(2, 5, 3, 20, dtype=torch.float64)

    expected = torch.stack([plain_ss2d(ss2d.state_dict(), example, directions, d_state=3) for example in x])

    torch.testing.assert_close(ss2d(x), expected, rtol=1e-9, atol=1e-9)


class Open(torch.nn.Module):
    """A gate that passes everything unchanged."""

    def forward(self, means):
        return torch.ones_like(means)


def test_one_direction_along_a_line_equals_mambapy():
    config = MambaConfig(d_model=20, n_layers=1, d_state=3, expand_factor=1, d_conv=2, pscan=False)
    reference = MambaBlock(config)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    sizes = {"shape": (1, 1, 16), "patch_size": (1, 1), "depths": (1,), "dims": (20,), "electrode_rows": True}
    ss2d = tiny(**sizes, scan_directions=("h",)).middle[0].ss2d
    ss2d.out_norm, ss2d.gate = torch.nn.Identity(), Open()  # theirs has neither
    theirs = reference.state_dict()
    kernel = torch.cat(
        [theirs["conv1d.weight"], torch.zeros(20, 1, 1)], dim=2
    )  # causal: zero weight for the next token
    ours = {
        "in_proj.weight": theirs["in_proj.weight"],
        "conv.weight": kernel[:, :, None],
        "conv.bias": theirs["conv1d.bias"],
        "x_proj": theirs["x_proj.weight"][None],
        "dt_proj": theirs["dt_proj.weight"][None],
        "dt_bias": theirs["dt_proj.bias"],
        "a_log": theirs["A_log"],
        "d": theirs["D"],
        "out_proj.weight": theirs["out_proj.weight"],
    }
    ss2d.load_state_dict(ours, strict=True)
    x = torch.randn(2, 16, 20)

    torch.testing.assert_close(ss2d(x[:, None])[:, 0], reference(x), rtol=1e-4, atol=1e-5)


def test_initial_steps_and_decays_are_those_of_mamba():
    ss2d = tiny(trained=False, dims=(8, 512), d_state=16).middle[0].ss2d
    steps = torch.nn.functional.softplus(ss2d.dt_bias)

    assert 0.001 <= steps.min() < 0.0011 and 0.09 < steps.max() <= 0.1001
    assert steps.log().mean().item() == pytest.approx(math.log(0.01), abs=0.15)
    torch.testing.assert_close(ss2d.a_log.exp(), torch.arange(1.0, 17).expand(4 * 512, -1))
    assert torch.equal(ss2d.d, torch.ones(4 * 512))


@pytest.mark.parametrize(
    ("shape", "architecture", "num_tokens"),
    [
        ((1, 20, 64), {"patch_size": (1, 8), "electrode_rows": True}, 160),
        ((3, 6, 14), {"patch_size": (3, 1)}, 28),
        ((1, 7, 5), {"patch_size": (1, 1), "depths": (1,), "dims": (8,)}, 35),
    ],
)
def test_any_shape_that_patches_and_merges_divide_is_accepted(shape, architecture, num_tokens):
    model = tiny(shape=shape, **architecture)
    x, t, cond = inputs(shape)

    assert model.num_tokens == num_tokens
    assert model(x, t, cond).shape == x.shape


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"shape": (1, 10, 20)}, "10 × 20: expected sizes that are multiples of 4 × 4"),
        ({"shape": (1, 5, 20), "patch_size": (1, 8), "electrode_rows": True}, "5 × 20: .* multiples of 1 × 16"),
        ({"patch_size": (2, 2), "electrode_rows": True}, r"spans 2 of 12 electrodes.*use patch_size = \[1, 2\]"),
        ({"dims": (8, 8, 8)}, "depths 2, dims 3; expected the same number"),
    ],
)
def test_sizes_that_do_not_fit_are_named(architecture, message):
    with pytest.raises(UserError, match=message):
        tiny(**architecture)


@pytest.mark.parametrize("table", [{"scan_directions": ["w3"]}, {"scan_directions": []}, {"depths": [2, 0]}])
def test_invalid_values_are_refused_when_the_table_is_read(table):
    with pytest.raises(ValidationError):
        TypeAdapter(LocalMambaArchitecture).validate_json(json.dumps(table))


def test_blocks_cycle_through_directions_so_that_a_level_uses_all():
    model = tiny(trained=False, depths=(1, 2))
    first, second = ("h", "h_flip", "v", "v_flip"), ("w2", "w2_flip", "w7", "w7_flip")

    found = [block.ss2d.order for block in model.blocks]

    grids = [(6, 10), (3, 5), (3, 5), (6, 10)]
    expected = [
        torch.stack([scan_order(direction, *grid) for direction in directions])
        for grid, directions in zip(grids, [first, first, second, second], strict=True)
    ]
    assert [order.tolist() for order in found] == [order.tolist() for order in expected]


@pytest.mark.parametrize("direction", range(SCANS_PER_BLOCK))
@pytest.mark.parametrize("block", range(4))
def test_every_direction_of_every_block_affects_the_prediction(block, direction):
    model = tiny()
    x, t, cond = inputs()
    before = model(x, t, cond)

    with torch.no_grad():
        ss2d = model.blocks[block].ss2d
        ss2d.x_proj[direction] = 0  # no input reaches the state, and the state is not read
        ss2d.d.unflatten(0, (SCANS_PER_BLOCK, -1))[direction] = 0

    assert (model(x, t, cond) - before).norm() > 1e-3 * before.norm()


def test_electrodes_are_identified_by_an_embedding():
    model = tiny(shape=(1, 3, 16), patch_size=(1, 4), electrode_rows=True)
    x, t, cond = inputs((1, 3, 16))
    before = model(x, t, cond)

    with torch.no_grad():
        model.places.rows.weight[1] += 1

    assert not torch.allclose(model(x, t, cond), before, rtol=1e-3)
    assert model.down[0][0].ss2d.conv.kernel_size == (1, 3)


def test_bfloat16_autocast_leaves_a_d_and_steps_in_float32(monkeypatch):
    model = tiny()
    x, t, cond = inputs()
    types = set()

    def recording(u, delta, a, b, c, d, delta_bias, *order):
        types.add((u.dtype, a.dtype, d.dtype, delta_bias.dtype))
        return original(u, delta, a, b, c, d, delta_bias, *order)

    name = "scan_tokens" if selective_scan_kernel(torch.device("cpu")) == "numba" else "selective_scan"
    original = getattr(localmamba, name)
    monkeypatch.setattr(localmamba, name, recording)
    with torch.autocast("cpu", torch.bfloat16):
        model(x, t, cond)

    assert types == {(torch.bfloat16, torch.float32, torch.float32, torch.float32)}


@pytest.mark.parametrize("change", [copy.deepcopy, lambda model: model.to(torch.float64)])
def test_a_d_and_steps_have_no_weight_decay(change):
    model = change(tiny(trained=False))
    model.middle[0].compile(backend="eager")
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    decayed = [
        names[id(p)] for p in build_optimizer(model, schema.Optimizer(weight_decay=0.1)).param_groups[0]["params"]
    ]

    assert [name for name in decayed if name.endswith(("a_log", ".d", "dt_bias"))] == []
    assert {"middle.0.ss2d.x_proj", "middle.0.ss2d.dt_proj", "middle.0.mlp.0.weight"} <= set(decayed)


def test_the_default_sizes_have_the_expected_number_of_parameters():
    with torch.device("meta"):
        spectrogram = LocalMamba(LocalMambaArchitecture(), shape=(1, 64, 64), attributes=(LABEL,))
        signal = LocalMamba(
            LocalMambaArchitecture(patch_size=(1, 8)), shape=(1, 20, 2048), attributes=(LABEL,), electrode_rows=True
        )

    assert 23e6 < sum(parameter.numel() for parameter in spectrogram.parameters()) < 25e6
    assert (spectrogram.num_tokens, signal.num_tokens) == (1024, 5120)
