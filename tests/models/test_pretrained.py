import json

import huggingface_hub
import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DModel
from safetensors.torch import load_file, save_file

from signal_diffusion.errors import UserError
from signal_diffusion.models import sd35, unet
from signal_diffusion.models.conditioning.attributes import Categorical, Conditioning
from signal_diffusion.models.pretrained import find_model_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
COND = Conditioning({"label": torch.tensor([0, 1])})
TIMES = torch.tensor([0.2, 0.7])


def randomised(network):
    generator = torch.Generator().manual_seed(0)
    for tensor in network.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
    return network.eval()


@pytest.fixture
def transformer():
    """A diffusers network with random weights everywhere, also in its table of positions."""
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "caption_projection_dim": 16, "joint_attention_dim": 12}
    network = SD3Transformer2DModel(
        **sizes,
        num_layers=2,
        pooled_projection_dim=10,
        in_channels=4,
        out_channels=4,
        sample_size=8,
        pos_embed_max_size=9,
        dual_attention_layers=(1,),
        qk_norm="rms_norm",
    )
    return randomised(network)


@pytest.fixture
def folder(transformer, tmp_path):
    """The transformer's own folder."""
    transformer.save_pretrained(tmp_path / "transformer")
    return tmp_path / "transformer"


def loaded(folder, *, shape=(4, 6, 8)):
    architecture = sd35.architecture_of(folder)
    model = sd35.SD35(architecture, shape=shape, attributes=(Categorical("label", ("a", "b")),)).eval()
    model.check_channels(folder)
    model.load_pretrained(folder)
    return model


def prediction(model, x):
    with torch.no_grad():
        return model(x, TIMES, COND)


def expected_of(transformer, model, x):
    """diffusers' own prediction for the same tokens."""
    with torch.no_grad():
        tokens, pooled = model.conditioning(COND, 2)
        return transformer(x, tokens, pooled, 1000 * TIMES).sample


def rewrite(folder, change):
    """Change the folder's tensors."""
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize("shard_size", ["1GB", "20KB"])
def test_predictions_equal_those_of_diffusers(transformer, tmp_path, shard_size):
    transformer.save_pretrained(tmp_path, max_shard_size=shard_size)
    x = torch.randn(2, 4, 6, 8)

    model = loaded(find_model_folder(str(tmp_path), "transformer"))

    assert (tmp_path / INDEX).is_file() == (shard_size == "20KB")
    torch.testing.assert_close(prediction(model, x), expected_of(transformer, model, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4, 6, 8), (4, 2, 18), (4, 10, 2)])
def test_positions_are_the_centre_of_the_pretrained_table(transformer, folder, shape):
    x = torch.randn(2, *shape)

    model = loaded(folder, shape=shape)

    torch.testing.assert_close(prediction(model, x), expected_of(transformer, model, x), rtol=1e-4, atol=1e-5)


def test_a_model_is_found_in_the_folder_of_a_pipeline(folder):
    (folder.parent / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')

    assert find_model_folder(str(folder.parent), "transformer") == folder


def test_weights_in_half_precision_become_float32(transformer, tmp_path):
    transformer.to(torch.bfloat16).save_pretrained(tmp_path)

    model = loaded(tmp_path)

    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    expected = transformer.float().state_dict()["transformer_blocks.0.attn.to_q.weight"]
    assert torch.equal(model.network.transformer_blocks[0].attn.to_q.weight, expected)


def test_predictions_of_a_unet_equal_those_of_diffusers(tmp_path):
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    network = randomised(UNet2DModel(block_out_channels=(32, 64), layers_per_block=1, sample_size=8, **blocks))
    network.save_pretrained(tmp_path)
    x = torch.randn(2, 3, 12, 8)

    model = unet.UNet(unet.architecture_of(tmp_path), shape=(3, 12, 8)).eval()
    model.load_pretrained(tmp_path)

    expected = unet.UNetArchitecture(
        model_channels=32, channel_multipliers=(1, 2), use_attention=(False, True), layers_per_block=1
    )
    assert unet.architecture_of(tmp_path) == expected
    with torch.no_grad():
        torch.testing.assert_close(model(x, TIMES, Conditioning()), network(x, 1000 * TIMES).sample)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freq_shift": 1}, "freq_shift = 1; expected 0"),
        ({"norm_num_groups": 8}, "norm_num_groups = 8; expected 32"),
        ({"block_out_channels": (32, 48)}, r"block_out_channels = \[32, 48\]; expected \(32, 32\)"),
        ({"attention_head_dim": None}, "attention_head_dim = None, which"),
    ],
)
def test_an_unsupported_setting_of_a_unet_is_named(tmp_path, settings, message):
    blocks = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    table = {"block_out_channels": (32, 32), "layers_per_block": 1} | blocks | settings
    table |= {"_class_name": "UNet2DModel", "attention_head_dim": table.get("attention_head_dim", 8)}
    (tmp_path / "config.json").write_text(json.dumps(table))

    with pytest.raises(UserError, match=message):
        unet.architecture_of(tmp_path)


def test_a_network_of_another_class_is_refused(folder):
    with pytest.raises(UserError, match=r"config.json: describes a SD3Transformer2DModel; expected a UNet2DModel"):
        unet.architecture_of(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"caption_projection_dim": 20}, "caption_projection_dim = 20; expected 16"),
        ({"out_channels": 8}, "out_channels = 8; expected 4"),
        ({"num_layers": None}, "num_layers = None"),
        ({"qk_norm": "layer_norm"}, "qk_norm = 'layer_norm'"),
    ],
)
def test_inconsistent_settings_of_a_transformer_are_named(folder, change, message):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))

    with pytest.raises(UserError, match=message):
        sd35.architecture_of(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"num_layers": 2}', "[" * 200_000])
def test_an_unreadable_config_is_reported(folder, text):
    (folder / "config.json").write_text(text)

    with pytest.raises(UserError, match=r"config.json: (cannot be read|describes a None).* expected "):
        sd35.architecture_of(folder)


@pytest.mark.parametrize(
    ("shape", "advice"),
    [((1, 6, 8), "model.autoencoder.enabled = true, with a VAE of 4"), ((16, 6, 8), "weights for 16 channels")],
)
def test_a_wrong_number_of_channels_is_reported_with_advice(folder, shape, advice):
    with pytest.raises(UserError, match=f"the model takes 4 channels, but the examples have {shape[0]}; .*{advice}"):
        loaded(folder, shape=shape)


def test_more_tokens_than_the_table_of_positions_has_are_refused(folder):
    with pytest.raises(
        UserError, match="examples have 10 × 4 tokens, but the pretrained model has positions for only 9 × 9"
    ):
        loaded(folder, shape=(4, 20, 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("proj_out.bias"), "lack the tensor 'proj_out.bias'"),
        (
            lambda tensors: tensors.update(extra=torch.zeros(1)),
            "have a tensor 'extra' that its config.json does not describe",
        ),
        (
            lambda tensors: tensors.update({"proj_out.bias": torch.zeros(3)}),
            r"'proj_out.bias' has shape \(3,\), expected \(16,\)",
        ),
    ],
)
def test_a_missing_unknown_or_misshapen_tensor_is_named(folder, change, message):
    rewrite(folder, change)

    with pytest.raises(UserError, match=message):
        loaded(folder)


@pytest.mark.parametrize("length", [0, 5, 1000, -1])
def test_weights_that_are_cut_short_are_reported_in_one_line(folder, length):
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:length])

    with pytest.raises(UserError, match=f"{WEIGHTS}: cut short or damaged") as caught:
        loaded(folder)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_reported(folder):
    (folder / WEIGHTS).unlink()

    with pytest.raises(UserError, match=f"{WEIGHTS}: missing; expected weights in safetensors"):
        loaded(folder)


def test_a_missing_shard_is_named(transformer, tmp_path):
    transformer.save_pretrained(tmp_path, max_shard_size="20KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()

    with pytest.raises(UserError, match=f"{shard.name}: missing"):
        loaded(tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": 1}', '{"weight_map": {"a": 1}}'])
def test_an_unreadable_index_of_shards_is_reported(folder, text):
    (folder / INDEX).write_text(text)

    with pytest.raises(UserError, match=f"{INDEX}: cannot be read"):
        loaded(folder)


@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd"])
def test_an_index_of_shards_names_no_file_outside_of_its_folder(folder, name):
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))

    with pytest.raises(UserError, match=f"{INDEX}: names '{name}', which is outside of its folder"):
        loaded(folder)


@pytest.mark.parametrize("pretrained", ["nowhere", "a/b/c", "/no/such"])
def test_neither_a_folder_nor_a_hub_id_is_refused(pretrained):
    with pytest.raises(
        UserError, match=f"{pretrained}: no such folder; expected one in diffusers' layout, or a Hub id"
    ):
        find_model_folder(pretrained, "transformer")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"not in diffusers' layout; expected config.json"):
        find_model_folder(str(tmp_path), "transformer")


def test_an_unreachable_hub_is_reported_in_one_line_with_advice():
    with pytest.raises(
        UserError, match=r"owner/name@main: .* could not be downloaded from the Hub .*; check .* or use a local folder"
    ) as caught:
        find_model_folder("owner/name@main", "transformer")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [False, True])
def test_only_needed_files_are_downloaded_from_the_hub(monkeypatch, folder, weights):
    requested = {}

    def snapshot_download(name, **options):
        requested.update(options, name=name)
        return str(folder.parent)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)

    assert find_model_folder("owner/name@v2", "transformer", weights=weights) == folder
    assert (requested["name"], requested["revision"]) == ("owner/name", "v2")
    weight_files = {f"transformer/{INDEX}", "transformer/diffusion_pytorch_model*.safetensors"}
    assert {"model_index.json", "transformer/config.json"} <= set(requested["allow_patterns"])
    assert weight_files & set(requested["allow_patterns"]) == (weight_files if weights else set())
    assert all(
        pattern.startswith(("transformer/", "model_", "config", "diff")) for pattern in requested["allow_patterns"]
    )


def test_pickled_weights_are_refused_with_the_command_that_converts_them(folder):
    weights = load_file(folder / WEIGHTS)
    torch.save(weights, folder / "diffusion_pytorch_model.bin")
    (folder / WEIGHTS).unlink()

    with pytest.raises(UserError, match=r"diffusion_pytorch_model.bin: a pickle, .*SD3Transformer2DModel as M; M\."):
        loaded(folder)
