"""Encoding and decoding with a frozen VAE: with its own factors, for any number of channels and any size."""

from __future__ import annotations

import json
import shlex
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from signal_diffusion.errors import UserError
from signal_diffusion.models.autoencoders import frozen as autoencoders
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.latent_statistics import LatentStatistics
from signal_diffusion.models.autoencoders.loading import load_vae
from signal_diffusion.untrusted import read_json


def kl(channels: int = 3, levels: int = 4, **factors: Any) -> AutoencoderKL:
    """A small AutoencoderKL that makes latents 2 ** (levels - 1) times smaller, with random weights."""
    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=16,
        **factors,
    ).eval()


def one_to_one(scaling: float, shift: float) -> AutoencoderTiny:
    """An AutoencoderTiny of linear layers that only scale: its latents are examples · 2⁻¹²."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(3,),
        decoder_block_out_channels=(3,),
        num_encoder_blocks=(0,),
        num_decoder_blocks=(0,),
        latent_channels=3,
        scaling_factor=scaling,
        shift_factor=shift,
    )
    first, last = vae.encoder.layers
    for layer, gain in ((first, 1.0), (last, 2**-12), (vae.decoder.layers[0], 2**12), (vae.decoder.layers[-1], 1.0)):
        layer.weight.data.zero_()
        layer.weight.data[range(3), range(3), 1, 1] = gain  # so small that the decoder's tanh is the identity too
        layer.bias.data.zero_()
    return vae


def examples(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 16)])
def test_decode_inverts_encode_of_a_linear_vae(shape: tuple[int, int, int]) -> None:
    autoencoder = Autoencoder(one_to_one(scaling=512.0, shift=2**-13), shape)
    x = examples(4, *shape)

    z = autoencoder.encode(x)

    assert z.shape[1:] == autoencoder.latent_shape == (3, *shape[1:])
    torch.testing.assert_close(z, (((x + 1) / 2) * 2**-12 - 2**-13).expand_as(z) * 512)
    torch.testing.assert_close(autoencoder.decode(z), x, rtol=0, atol=1e-6)


class Copying(nn.Module):
    """An encoder that returns its inputs as means, and a constant log-variance."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.full_like(x, -2.0)], dim=1)


def identity(scaling: float, shift: float) -> AutoencoderKL:
    """An AutoencoderKL that changes nothing."""
    factors = {"scaling_factor": scaling, "shift_factor": shift}
    sizes = {"block_out_channels": (4,), "norm_num_groups": 1, "latent_channels": 3}
    vae = AutoencoderKL(**sizes, **factors, use_quant_conv=False, use_post_quant_conv=False)
    vae.encoder, vae.decoder = Copying(), nn.Identity()
    return vae


def test_float16_examples_are_recovered_exactly_if_factors_and_statistics_are_powers_of_two() -> None:
    autoencoder = Autoencoder(identity(scaling=0.5, shift=-0.25), (3, 16, 16))
    autoencoder.normalise(LatentStatistics(mean=(0.5, -0.125, 0.0), std=(0.25, 2.0, 1.0)))
    x = examples(8, 3, 16, 16).mul(2**11).round() / 2**11  # the spacing of float16 between 1/2 and 1

    z = autoencoder.encode(x)

    assert torch.equal(z[:, 0], ((x[:, 0] + 0.25) * 0.5 - 0.5) / 0.25)
    assert torch.equal(autoencoder.decode(z), x)


def test_examples_are_recovered_within_an_ulp_for_any_factors_and_statistics() -> None:
    autoencoder = Autoencoder(identity(scaling=1.5305, shift=0.0609), (3, 64, 64))
    autoencoder.normalise(LatentStatistics(mean=(0.31, -0.77, 0.123), std=(0.23, 1.71, 0.9)))
    x = examples(32, 3, 64, 64)

    back = autoencoder.decode(autoencoder.encode(x))

    assert (back - x).abs().max() <= 2**-23 * 2  # an ulp of numbers between 1 and 2, such as x - offset
    on_grid = x.mul(2**11).round() / 2**11
    assert torch.equal(autoencoder.decode(autoencoder.encode(on_grid)).mul(2**11).round() / 2**11, on_grid)


def test_posterior_draws_equal_those_of_diffusers_scaled_as_in_its_pipelines() -> None:
    vae, x = kl(scaling_factor=1.5305, shift_factor=0.0609), examples(2, 3, 64, 64)
    autoencoder = Autoencoder(vae, (3, 64, 64))

    drawn = autoencoder.encode(x, torch.Generator().manual_seed(3))

    sample = vae.encode(x).latent_dist.sample(torch.Generator().manual_seed(3))
    assert torch.equal(drawn, (sample - 0.0609) * 1.5305)
    assert not torch.equal(drawn, autoencoder.encode(x))


def test_statistics_apply_on_top_of_the_vaes_own_factors_in_both_directions() -> None:
    vae, x = kl(scaling_factor=1.5305, shift_factor=0.0609), examples(2, 3, 64, 64)
    own, normalised = Autoencoder(vae, (3, 64, 64)), Autoencoder(vae, (3, 64, 64))
    statistics = LatentStatistics(tuple(torch.linspace(-1, 1, 16).tolist()), tuple(torch.linspace(0.1, 3, 16).tolist()))
    normalised.normalise(statistics)
    mean, std = (torch.tensor(values)[:, None, None] for values in (statistics.mean, statistics.std))

    z = normalised.encode(x)

    torch.testing.assert_close(z, (own.encode(x) - mean) / std, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normalised.decode(z), own.decode(z * std + mean))
    variances = vae.encode(x).latent_dist.var * 1.5305**2 / std**2
    torch.testing.assert_close(normalised.variances(normalised.moments(x)), variances)


def test_statistics_are_the_same_after_json(tmp_path: Path) -> None:
    statistics = LatentStatistics((0.1, -1 / 3), (1e-9, 2.0))
    (tmp_path / "latents.json").write_text(statistics.to_json())
    assert read_json(tmp_path / "latents.json", LatentStatistics, "") == statistics


def test_statistics_of_another_number_of_channels_are_refused() -> None:
    autoencoder = Autoencoder(kl(), (3, 64, 64))
    with pytest.raises(UserError, match="statistics are of 2 and 2 latent channels, but the autoencoder has 16"):
        autoencoder.normalise(LatentStatistics((0.0, 0.0), (1.0, 1.0)))


def test_a_tiny_autoencoder_has_no_posterior_to_draw_from() -> None:
    autoencoder, x = Autoencoder(one_to_one(scaling=1.0, shift=0.0), (3, 8, 8)), examples(2, 3, 8, 8)

    assert autoencoder.moments_shape == autoencoder.latent_shape == autoencoder.moments(x).shape[1:]
    assert torch.equal(autoencoder.encode(x, torch.Generator()), autoencoder.encode(x))
    assert not autoencoder.variances(autoencoder.moments(x)).any()


def test_a_released_vae_is_freed_and_loaded_again_on_use() -> None:
    autoencoder = Autoencoder(kl(), (3, 64, 64), load=kl)
    x, gone = examples(1, 3, 64, 64), weakref.ref(autoencoder.vae)
    z = autoencoder.encode(x)

    autoencoder.release()

    assert gone() is None
    assert autoencoder.description.startswith("16 × 8 × 8 latents by AutoencoderKL")
    with autoencoder.borrowed():
        again = weakref.ref(autoencoder.vae)
        assert torch.equal(autoencoder.encode(x), z)
    assert again() is None


def test_borrowing_keeps_a_vae_that_was_not_released() -> None:
    autoencoder = Autoencoder(kl(), (3, 64, 64), load=kl)
    vae = autoencoder.vae
    with autoencoder.borrowed():
        pass
    assert autoencoder.vae is vae


def test_loading_a_changed_vae_after_release_is_refused() -> None:
    autoencoder = Autoencoder(kl(), (3, 64, 64), load=partial(kl, scaling_factor=0.5))
    autoencoder.release()
    with pytest.raises(
        UserError, match=r"^\[model.autoencoder\] path: the weights have changed since this run started"
    ):
        autoencoder.encode(examples(1, 3, 64, 64))


def test_a_large_example_is_tiled_with_nearly_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoders, "TILE", 64)
    x = examples(1, 3, 96, 128)
    whole, tiled = Autoencoder(blurring(), (3, 96, 128)), Autoencoder(blurring(), (3, 96, 128), tiling=True)
    sizes: list[tuple[int, ...]] = []
    tiled.vae.encoder.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(inputs[0].shape[2:])))
    tiled.vae.decoder.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))

    z = whole.encode(x)
    z_tiled, back_tiled = tiled.encode(x), tiled.decode(z)

    assert len(sizes) >= 2 * 4 and max(max(size) for size in sizes) == 64
    assert z_tiled.shape == z.shape and back_tiled.shape == x.shape
    assert not torch.equal(z_tiled, z)
    for near, expected in ((z_tiled, z), (back_tiled, whole.decode(z))):
        assert torch.corrcoef(torch.stack([near.flatten(), expected.flatten()]))[0, 1] > 0.98
    assert "in tiles" in tiled.description and "in tiles" not in whole.description


def test_a_small_example_is_not_tiled() -> None:
    x = examples(2, 3, 64, 64)
    assert torch.equal(Autoencoder(kl(), (3, 64, 64), tiling=True).encode(x), Autoencoder(kl(), (3, 64, 64)).encode(x))


def test_a_tiny_autoencoder_cannot_be_tiled() -> None:
    with pytest.raises(UserError, match=r"^\[model.autoencoder\] tiling: AutoencoderTiny is small and needs no tiles"):
        Autoencoder(one_to_one(scaling=1.0, shift=0.0), (3, 8, 8), tiling=True)


def blurring() -> AutoencoderKL:
    """An AutoencoderKL with a receptive field of eleven rows and columns, less than a tile."""
    vae = kl()
    blur = partial(nn.AvgPool2d, 3, stride=1, padding=1)
    vae.encoder = nn.Sequential(blur(), nn.AvgPool2d(8), nn.Conv2d(3, 32, 1))
    vae.decoder = nn.Sequential(nn.Conv2d(16, 3, 1), nn.Upsample(scale_factor=8), blur())
    torch.manual_seed(0)
    vae.apply(lambda module: module.reset_parameters() if isinstance(module, nn.Conv2d) else None)
    return vae


def sd3(kind: str, vae: AutoencoderKL) -> Any:
    """A pipeline of Stable Diffusion 3 around a VAE, with a transformer that predicts a velocity of zero."""
    import diffusers

    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
    )
    torch.nn.init.zeros_(transformer.proj_out.weight)
    torch.nn.init.zeros_(transformer.proj_out.bias)
    others = dict.fromkeys([f"{part}{i}" for part in ("text_encoder", "tokenizer") for i in ("", "_2", "_3")])
    pipeline = getattr(diffusers, kind)(
        transformer=transformer, vae=vae, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), **others
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_decoding_equals_the_pipeline_of_stable_diffusion_3() -> None:
    vae = kl(scaling_factor=1.5305, shift_factor=0.0609)
    z = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(2))
    pipeline = sd3("StableDiffusion3Pipeline", vae)

    expected = pipeline(
        prompt_embeds=torch.zeros(2, 3, 16),
        pooled_prompt_embeds=torch.zeros(2, 16),
        latents=z,
        height=64,
        width=64,
        num_inference_steps=1,
        guidance_scale=1.0,
        output_type="pt",
    ).images

    decoded = Autoencoder(vae, (3, 64, 64)).decode(z)
    torch.testing.assert_close((decoded / 2 + 0.5).clamp(0, 1), expected)
    assert expected.std() > 0.05 and (expected > 0).any() and (expected < 1).any()


def test_encoding_equals_the_pipeline_of_stable_diffusion_3() -> None:
    vae = kl(scaling_factor=1.5305, shift_factor=0.0609)
    vae.quant_conv.bias.data[16:] = -1000  # no variance, so that the pipeline's draw is the mean
    pipeline, x = sd3("StableDiffusion3Img2ImgPipeline", vae), examples(2, 3, 64, 64)
    pipeline.scheduler.set_timesteps(sigmas=[1e-9])

    expected = pipeline.prepare_latents(
        x, pipeline.scheduler.timesteps[:1].repeat(2), 2, 1, torch.float32, "cpu", torch.Generator().manual_seed(0)
    )

    torch.testing.assert_close(Autoencoder(vae, (3, 64, 64)).encode(x), expected, rtol=1e-5, atol=1e-5)


def test_an_older_vae_without_a_shift_only_scales() -> None:
    vae, x = kl(scaling_factor=0.18215), examples(2, 3, 64, 64)

    expected = vae.encode(x).latent_dist.mean * 0.18215

    assert vae.config.shift_factor is None
    torch.testing.assert_close(Autoencoder(vae, (3, 64, 64)).encode(x), expected)


def test_one_channel_is_repeated_to_three_and_decoded_to_their_mean() -> None:
    vae, x = kl(), examples(2, 1, 64, 64)
    colours, grey = Autoencoder(vae, (3, 64, 64)), Autoencoder(vae, (1, 64, 64))

    z = grey.encode(x)

    assert torch.equal(z, colours.encode(x.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(grey.decode(z), colours.decode(z).mean(1, keepdim=True))


def test_a_vae_of_one_channel_is_used_as_it_is() -> None:
    vae, x = kl(channels=1), examples(2, 1, 64, 64)
    autoencoder = Autoencoder(vae, (1, 64, 64))

    z = autoencoder.encode(x)

    torch.testing.assert_close(z, vae.encode(x).latent_dist.mean * 0.18215)
    assert autoencoder.decode(z).shape == x.shape


def test_a_time_series_is_padded_by_its_last_row_and_cropped() -> None:
    vae, x = kl(), examples(1, 1, 20, 256)
    autoencoder = Autoencoder(vae, (1, 20, 256))
    padded = torch.cat([x, x[:, :, -1:].expand(-1, -1, 4, -1)], dim=2)

    z = autoencoder.encode(x)

    assert z.shape[1:] == autoencoder.latent_shape == (16, 3, 32)
    assert torch.equal(z, Autoencoder(vae, (1, 24, 256)).encode(padded))
    assert torch.equal(autoencoder.decode(z), Autoencoder(vae, (1, 24, 256)).decode(z)[:, :, :20])
    assert autoencoder.description == (
        "16 × 3 × 32 latents by AutoencoderKL from examples of 1 × 20 × 256, padded to 24 × 256"
    )


def test_a_time_series_at_its_real_size_has_three_rows_of_latents() -> None:
    assert Autoencoder(kl(), (1, 20, 2048)).latent_shape == (16, 3, 256)


def test_the_batch_size_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder, x = Autoencoder(kl(), (3, 64, 64)), examples(5, 3, 64, 64)
    z = autoencoder.encode(x)
    whole = autoencoder.decode(z)
    sizes: list[int] = []
    autoencoder.vae.decoder.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    monkeypatch.setattr(autoencoders, "PIXELS_AT_A_TIME", 2 * 64 * 64)

    torch.testing.assert_close(autoencoder.encode(x), z)
    torch.testing.assert_close(autoencoder.decode(z), whole)
    assert sizes == [2, 2, 1]


def test_the_vae_is_frozen_in_fp32_and_in_eval_mode() -> None:
    autoencoder = Autoencoder(kl().bfloat16(), (3, 64, 64))

    z = autoencoder.encode(examples(1, 3, 64, 64).requires_grad_())

    assert not z.requires_grad and z.dtype == torch.float32
    assert not any(module.training for module in autoencoder.vae.modules())
    assert {(p.requires_grad, p.dtype) for p in autoencoder.vae.parameters()} == {(False, torch.float32)}


def test_a_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(UserError, match="the autoencoder takes 3 channels, but the dataset's examples have 2"):
        Autoencoder(kl(), (2, 64, 64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vae"
    kl(scaling_factor=1.5305, shift_factor=0.0609).save_pretrained(path)
    return path


def test_a_vae_is_loaded_from_its_own_folder_or_that_of_a_pipeline(folder: Path) -> None:
    own, of_pipeline = load_vae(str(folder)), load_vae(str(folder.parent))

    assert own.config.scaling_factor == of_pipeline.config.scaling_factor == 1.5305
    saved = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in saved.items())


def copied(folder: Path, to: Path, *, config: dict[str, Any] | None = None, lacking: str = "") -> str:
    """A copy of a VAE's folder with another config, or without one of its tensors."""
    to.mkdir()
    settings = json.loads((folder / "config.json").read_text()) | (config or {})
    (to / "config.json").write_text(json.dumps(settings))
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    weights.pop(lacking, None)
    save_file(weights, to / "diffusion_pytorch_model.safetensors")
    return str(to)


def test_an_unusable_vae_is_reported_in_one_line(folder: Path, tmp_path: Path) -> None:
    transformer = copied(folder, tmp_path / "transformer", config={"_class_name": "SD3Transformer2DModel"})
    partial = copied(folder, tmp_path / "partial", lacking="decoder.conv_in.weight")
    normalised = copied(folder, tmp_path / "normalised", config={"latents_mean": [0.1] * 4, "latents_std": [1.2] * 4})
    (tmp_path / "empty").mkdir()
    broken = Path(copied(folder, tmp_path / "broken")) / "diffusion_pytorch_model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    for source, expected in (
        (transformer, "contains a SD3Transformer2DModel; expected AutoencoderKL or AutoencoderTiny"),
        (normalised, "config.json has latents_mean and latents_std, but scaling latents per channel is not supported"),
        (partial, "lack 'decoder.conv_in.weight'"),
        (str(tmp_path / "empty"), "not in diffusers' layout"),
        (str(tmp_path / "nowhere"), "no such folder"),
        (str(tmp_path / "broken"), "cannot read the weights"),
        ("owner/not-here@main", "could not be downloaded from the Hub"),
    ):
        with pytest.raises(UserError, match=r"^\[model.autoencoder\] path: ") as caught:
            load_vae(source)
        assert len(caught.value.lines) == 1 and "\n" not in str(caught.value) and expected in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[]", "should be an object"),
        (b"\xff", "Invalid JSON"),
        (b"[" * 200_000, "recursion limit exceeded"),
        (b'{"_class_name": "AutoencoderKL", "block_out_channels": "x"}', "cannot read the weights"),
        (b'{"_class_name": "AutoencoderKL", "block_out_channels": [1000000000]}', "cannot read the weights"),
        (b'{"_class_name": ["AutoencoderKL"]}', "contains a "),
        (b'{"_class_name": "os.system"}', "contains a os.system"),
    ],
)
def test_damaged_settings_are_one_line(text: bytes, reason: str, folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path / "vae")
    (tmp_path / "vae" / "config.json").write_bytes(text)
    with pytest.raises(UserError, match=rf"^\[model.autoencoder\] path: .*{reason}") as caught:
        load_vae(str(tmp_path / "vae"))
    assert len(caught.value.lines) == 1 and "\n" not in str(caught.value)


def test_pickled_weights_are_refused_with_the_command_that_converts_them(folder: Path, tmp_path: Path) -> None:
    vae = Path(copied(folder, tmp_path / "a vae"))
    weights = load_file(vae / "diffusion_pytorch_model.safetensors")
    torch.save(weights, vae / "diffusion_pytorch_model.bin")
    (vae / "diffusion_pytorch_model.safetensors").unlink()

    with pytest.raises(UserError, match=r"diffusion_pytorch_model.bin: a pickle, which can run code") as caught:
        load_vae(str(vae))

    *_, python, option, code = shlex.split(str(caught.value).partition("convert it to safetensors: ")[2])
    assert (python, option) == ("python", "-c")
    exec(code)
    converted = load_vae(str(vae)).state_dict()
    assert all(torch.equal(value, converted[name]) for name, value in weights.items())


@pytest.mark.real_data
def test_an_image_survives_taesd3(real_data: Path) -> None:
    vae = load_vae(str(real_data / "weights" / "taesd3"))
    autoencoder = Autoencoder(vae, (1, 64, 64))
    rows, columns = torch.meshgrid(torch.linspace(-3, 3, 64), torch.linspace(-4, 4, 64), indexing="ij")
    x = ((rows**2).cos() * columns.sin() * 0.8)[None, None]

    z = autoencoder.encode(x)

    assert z.shape == (1, 16, 8, 8) and 0.3 < z.std() < 3
    assert torch.equal(z, vae.encode(x.expand(-1, 3, -1, -1)).latents)  # TAESD's latents are scaled already
    error = (autoencoder.decode(z) - x).square().mean()
    assert 10 * (4 / error).log10() > 25  # dB; the range is 2
