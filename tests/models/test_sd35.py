import pytest
import torch
from diffusers import SD3Transformer2DModel
from pydantic import TypeAdapter, ValidationError

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Caption, Categorical, Conditioning, Numeric
from signal_diffusion.models.sd35 import SD35, SD35Architecture

LABEL = Categorical("label", ("relaxed", "alert"))
AGE = Numeric("age", 40.0, 15.0)
CAPTION = Caption(
    "caption",
    ("", "a woman", "a man of 60"),
    tokens=torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1)),
    pooled=torch.randn(3, 20, generator=torch.Generator().manual_seed(2)),
)
SIZES = {"num_attention_heads": 2, "attention_head_dim": 8, "joint_attention_dim": 32, "pooled_projection_dim": 28}
SIZES |= {"patch_size": 2, "sample_size": 16, "pos_embed_max_size": 12}
TINY = SIZES | {"num_layers": 2, "dual_attention_layers": (0,)}


def tiny(*, shape=(4, 6, 10), attributes=(CAPTION,), trained=True, **architecture):
    """A small network; a `trained` one has random weights everywhere, because initially the output is zero."""
    torch.manual_seed(0)
    model = SD35(SD35Architecture(**TINY | architecture), shape=shape, attributes=attributes)
    if trained:
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def inputs(shape=(4, 6, 10)):
    cond = Conditioning(
        {"label": torch.tensor([0, 1]), "age": torch.tensor([20.0, 60.0]), "caption": torch.tensor([1, 2])}
    )
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(3)), torch.tensor([0.1, 0.9]), cond


def diffusers_network(model, channels):
    """diffusers' own network with our weights, and its own table of positions."""
    network = SD3Transformer2DModel(
        **TINY,
        in_channels=channels,
        out_channels=channels,
        caption_projection_dim=16,
        qk_norm="rms_norm",
    )
    weights = {name: value for name, value in model.network.state_dict().items() if name != "pos_embed.pos_embed"}
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["pos_embed.pos_embed"], [])
    return network.eval()


@pytest.mark.parametrize("shape", [(4, 6, 10), (1, 24, 2), (3, 4, 4)])
def test_predictions_equal_those_of_diffusers(shape):
    model = tiny(shape=shape)
    x, t, cond = inputs(shape)
    tokens = torch.nn.functional.pad(CAPTION.tokens[cond.attributes["caption"]], (0, 8))
    pooled = torch.nn.functional.pad(CAPTION.pooled[cond.attributes["caption"]], (0, 8))

    with torch.no_grad():
        expected = diffusers_network(model, shape[0])(x, tokens, pooled, 1000 * t).sample
        found = model(x, t, cond)

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 0.1


def test_a_dropped_caption_is_exactly_the_empty_caption():
    model = tiny()
    x, t, cond = inputs()
    empty = Conditioning({"caption": torch.tensor([0, 0])})

    dropped = model(x, t, cond.drop(torch.tensor([True, True])))

    assert torch.equal(dropped, model(x, t, empty))
    assert not torch.allclose(dropped, model(x, t, cond), atol=1e-3)


@pytest.mark.parametrize("table", ["tokens", "pooled"])
def test_both_embeddings_of_a_caption_affect_the_prediction(table):
    model = tiny()
    x, t, cond = inputs()
    before = model(x, t, cond)

    captions = model.conditioning.captions[0]
    setattr(captions, table, getattr(captions, table) + 1)

    assert not torch.allclose(model(x, t, cond), before, atol=1e-3)


def test_the_caption_table_is_stored_without_padding():
    model = tiny()

    assert sum(table.nbytes for table in model.conditioning.buffers()) == CAPTION.tokens.nbytes + CAPTION.pooled.nbytes


def test_missing_conditions_are_named():
    x, t, _ = inputs()

    with pytest.raises(ValueError, match="label"):
        tiny(attributes=(LABEL,))(x, t, Conditioning())


@pytest.mark.parametrize("shape", [(16, 3, 256), (4, 5, 9), (1, 1, 1)])
def test_sizes_that_the_patch_does_not_divide_are_padded_with_zeros_and_cropped(shape):
    model = tiny(shape=shape, num_layers=1)
    x, t, cond = inputs(shape)
    rows, columns = -(-shape[1] // 2), -(-shape[2] // 2)
    padded = torch.zeros(2, shape[0], 2 * rows, 2 * columns)
    padded[:, :, : shape[1], : shape[2]] = x

    prediction = model(x, t, cond)

    assert model.num_tokens == rows * columns
    torch.testing.assert_close(prediction, model(padded, t, cond)[:, :, : shape[1], : shape[2]], rtol=0, atol=0)


def test_saving_and_loading_is_bit_identical_without_captions_in_the_file():
    model, other = tiny(attributes=(CAPTION, LABEL)), tiny(attributes=(CAPTION, LABEL), trained=False)
    x, t, cond = inputs()

    other.load_state_dict(model.state_dict(), strict=True)

    assert torch.equal(other(x, t, cond), model(x, t, cond))
    assert [name for name in model.state_dict() if "captions" in name] == []


def test_lora_finds_every_projection_of_attention():
    names = [name for name, module in tiny().named_modules() if isinstance(module, torch.nn.Linear)]

    found = [name for name in names if any(name.endswith(f".{target}") for target in SD35.lora_targets)]

    assert len(found) == 8 + 4 + 7  # the last block drops the conditions, so it has no output projection for them
    assert found == [name for name in names if ".attn" in name]


def test_stable_diffusion_3_5_medium_has_as_many_parameters_as_its_file():
    with torch.device("meta"):
        model = SD35(SD35Architecture(), shape=(16, 8, 8))

    # The transformer's diffusion_pytorch_model.safetensors has 4 939 433 672 bytes, two per number. It includes the
    # table of positions, which is not a parameter here, and a header, for which the tolerance is 1 in 10 000.
    published = 4_939_433_672 / 2 - 384**2 * 1536
    assert sum(parameter.numel() for parameter in model.network.parameters()) == pytest.approx(published, rel=1e-4)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_the_table_of_a_file_becomes_an_architecture():
    architecture = TypeAdapter(SD35Architecture).validate_json('{"num_layers": 3, "dual_attention_layers": [1]}')

    assert architecture == SD35Architecture(num_layers=3, dual_attention_layers=(1,))


@pytest.mark.parametrize(
    "table",
    ['{"num_layers": 0}', '{"dual_attention_layers": [-1]}', '{"qk_norm": "layer"}', '{"caption_projection_dim": 16}'],
)
def test_a_wrong_value_or_key_is_refused(table):
    with pytest.raises(ValidationError):
        TypeAdapter(SD35Architecture).validate_json(table)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"attention_head_dim": 7}, "= 14: expected a multiple of 4"),
        ({"sample_size": 1}, "sample_size: 1, expected at least the patch_size"),
        ({"joint_attention_dim": 20}, "joint_attention_dim: 20, but the text encoder has 24 channels"),
        ({"pooled_projection_dim": 16}, "pooled_projection_dim: 16, but the text encoder has 20 channels"),
    ],
)
def test_sizes_that_do_not_fit_are_named(architecture, message):
    with pytest.raises(UserError, match=message):
        tiny(**architecture)


def test_positions_are_extrapolated_beyond_the_table():
    inside = tiny(shape=(1, 4, 24), num_layers=1).network.pos_embed.pos_embed.unflatten(1, (2, 12))
    beyond = tiny(shape=(1, 4, 48), num_layers=1).network.pos_embed.pos_embed.unflatten(1, (2, 24))

    torch.testing.assert_close(beyond[:, :, 6:18], inside)
    assert torch.pdist(beyond[0, 0]).min() > 0.01
