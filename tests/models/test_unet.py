import pytest
import torch
from diffusers import UNet2DModel
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Caption, Categorical, Conditioning, Numeric
from signal_diffusion.models.unet import UNet, UNetArchitecture

LABEL = Categorical("label", ("relaxed", "alert"))
AGE = Numeric("age", 40.0, 15.0)
CAPTION = Caption("caption", ("", "a woman", "a man"), tokens=torch.randn(3, 5, 24), pooled=torch.randn(3, 20))
TINY = {"model_channels": 16, "channel_multipliers": (1, 2), "use_attention": (False, True), "layers_per_block": 1}


def tiny(*, shape=(3, 12, 20), attributes=(LABEL,), trained=True, electrode_rows=False, **architecture):
    """A small network; a `trained` one has random weights everywhere, because initially the output is zero."""
    torch.manual_seed(0)
    table = UNetArchitecture(**TINY | architecture)
    model = UNet(table, shape=shape, attributes=attributes, electrode_rows=electrode_rows)
    if trained:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def inputs(shape=(3, 12, 20)):
    cond = Conditioning(
        {"label": torch.tensor([0, 1]), "age": torch.tensor([20.0, 60.0]), "caption": torch.tensor([1, 2])}
    )
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(3)), torch.tensor([0.1, 0.9]), cond


@pytest.mark.parametrize("attributes", [(), (LABEL,)])
def test_predictions_equal_those_of_diffusers(attributes):
    model = tiny(attributes=attributes)
    x, t, cond = inputs()
    network = UNet2DModel(
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=16,
        class_embed_type="identity" if attributes else None,
    ).eval()
    network.load_state_dict(model.network.state_dict(), strict=True)
    condition = model.conditioning(cond) if attributes else None

    expected = network(x, 1000 * t, class_labels=condition).sample

    torch.testing.assert_close(model(x, t, cond), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.05


def test_conditions_have_the_width_of_the_first_level():
    model = tiny(channel_multipliers=(2, 4), use_attention=(False, False))
    x, t, cond = inputs()

    assert model(x, t, cond).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 40, 28), (1, 20, 2048)])
def test_any_size_that_the_levels_divide_is_accepted(shape):
    model = tiny(shape=shape, channel_multipliers=(1, 1, 1), use_attention=(False, False, False))
    x, t, cond = inputs(shape)

    with torch.no_grad():
        assert model(x[:1], t[:1], cond[:1]).shape == x[:1].shape


def test_a_size_that_the_levels_do_not_divide_is_refused_with_one_that_they_do():
    with pytest.raises(UserError, match=r"3 levels .* multiples of 4, but examples are 30 × 41; .* 32 × 44"):
        tiny(shape=(3, 30, 41), channel_multipliers=(1, 1, 1), use_attention=(False, False, False))


def test_electrodes_that_the_levels_do_not_divide_are_padded_with_zeros():
    model = tiny(shape=(1, 19, 32), electrode_rows=True)
    x, t, cond = inputs((1, 19, 32))
    padded = torch.cat([x, torch.zeros(2, 1, 1, 32)], dim=2)

    prediction = model(x, t, cond)

    assert prediction.shape == x.shape
    torch.testing.assert_close(prediction, model.network(padded, 1000 * t, model.conditioning(cond)).sample[:, :, :19])


def test_blocks_add_nothing_to_the_state_dict():
    model = tiny()
    before = list(model.state_dict())

    assert len(model.blocks) == 5
    assert list(model.state_dict()) == before


@pytest.mark.parametrize(("multipliers", "groups"), [((1, 2), 4), ((2, 3), 4), ((8, 16), 32)])
def test_groups_divide_the_channels_of_every_level(multipliers, groups):
    with torch.device("meta"):
        model = tiny(model_channels=4, channel_multipliers=multipliers, attention_head_dim=4, trained=False)

    assert model.network.config.norm_num_groups == groups


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"use_attention": (True,)}, "use_attention has 1 levels and channel_multipliers 2; expected the same number"),
        (
            {"channel_multipliers": (1, 1, 1), "use_attention": (False,) * 3, "shape": (1, 4, 4)},
            "reduce 4 × 4 to one pixel",
        ),
        ({"attention_head_dim": 5}, "attention_head_dim: 5, expected a divisor of the 32 channels"),
        ({"attention_head_dim": 32, "use_attention": (True, True)}, "32, expected a divisor of the 16 channels"),
    ],
)
def test_sizes_that_do_not_fit_are_named(architecture, message):
    with pytest.raises(UserError, match=message):
        tiny(**architecture)


def test_the_table_of_a_file_becomes_an_architecture():
    table = '{"model_channels": 32, "channel_multipliers": [1, 3], "use_attention": [true, false]}'

    expected = UNetArchitecture(model_channels=32, channel_multipliers=(1, 3), use_attention=(True, False))
    assert TypeAdapter(UNetArchitecture).validate_json(table) == expected


@pytest.mark.parametrize("table", ['{"channel_multipliers": []}', '{"use_attention": [1]}', '{"model_channels": 6}'])
def test_a_wrong_value_is_refused(table):
    with pytest.raises(ValidationError):
        TypeAdapter(UNetArchitecture).validate_json(table)
