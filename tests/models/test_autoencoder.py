"""Into the latent space and back: with the VAE's own factors, for any number of channels and any size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import load_file, save_file
from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.models import autoencoder as autoencoders
from signal_diffusion.models.autoencoder import Autoencoder, load_vae


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
    """An AutoencoderTiny of linear layers that change nothing but the size: its latents are examples · 2⁻¹²."""
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
        layer.weight.data[range(3), range(3), 1, 1] = gain  # so small, the decoder's tanh is the identity too
        layer.bias.data.zero_()
    return vae


def examples(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 5, 16)])
def test_what_a_one_to_one_vae_encodes_comes_back(shape: tuple[int, int, int]) -> None:
    autoencoder = Autoencoder(one_to_one(scaling=512.0, shift=2**-13), shape)
    x = examples(4, *shape)

    z = autoencoder.encode(x)

    assert z.shape[1:] == autoencoder.latent_shape == (3, *shape[1:])
    torch.testing.assert_close(z, (((x + 1) / 2) * 2**-12 - 2**-13).expand_as(z) * 512)
    torch.testing.assert_close(autoencoder.decode(z), x, rtol=0, atol=1e-6)


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


def test_latents_are_decoded_as_by_the_pipeline_of_stable_diffusion_3() -> None:
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


def test_examples_are_encoded_as_by_the_pipeline_of_stable_diffusion_3() -> None:
    vae = kl(scaling_factor=1.5305, shift_factor=0.0609)
    vae.quant_conv.bias.data[16:] = -1000  # no variance, so that the pipeline's draw is the mean
    pipeline, x = sd3("StableDiffusion3Img2ImgPipeline", vae), examples(2, 3, 64, 64)
    pipeline.scheduler.set_timesteps(sigmas=[1e-9])

    expected = pipeline.prepare_latents(
        x, pipeline.scheduler.timesteps[:1].repeat(2), 2, 1, torch.float32, "cpu", torch.Generator().manual_seed(0)
    )

    torch.testing.assert_close(Autoencoder(vae, (3, 64, 64)).encode(x), expected, rtol=1e-5, atol=1e-5)


def test_an_older_vae_without_a_shift_scales_alone() -> None:
    vae, x = kl(scaling_factor=0.18215), examples(2, 3, 64, 64)

    expected = vae.encode(x).latent_dist.mean * 0.18215

    assert vae.config.shift_factor is None
    torch.testing.assert_close(Autoencoder(vae, (3, 64, 64)).encode(x), expected)


def test_examples_of_one_channel_are_in_all_three_and_come_back_as_the_mean() -> None:
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
        "16 × 3 × 32 latents by AutoencoderKL of examples of 1 × 20 × 256, padded to 24 × 256"
    )


def test_a_time_series_at_its_real_size_has_three_rows_of_latents() -> None:
    assert Autoencoder(kl(), (1, 20, 2048)).latent_shape == (16, 3, 256)


def test_a_few_at_a_time_are_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
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
    autoencoder.train()

    z = autoencoder.encode(examples(1, 3, 64, 64).requires_grad_())

    assert not z.requires_grad and z.dtype == torch.float32
    assert not any(module.training for module in autoencoder.modules())
    assert {(p.requires_grad, p.dtype) for p in autoencoder.parameters()} == {(False, torch.float32)}


def test_other_channels_than_the_vae_takes_are_refused() -> None:
    with pytest.raises(UserError, match="an autoencoder of 3 channels, but the dataset's examples have 2"):
        Autoencoder(kl(), (2, 64, 64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vae"
    kl(scaling_factor=1.5305, shift_factor=0.0609).save_pretrained(path)
    return path


def test_a_vae_is_found_in_its_folder_and_in_that_of_a_pipeline(folder: Path) -> None:
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


def test_what_is_no_vae_is_one_line(folder: Path, tmp_path: Path) -> None:
    transformer = copied(folder, tmp_path / "transformer", config={"_class_name": "SD3Transformer2DModel"})
    partial = copied(folder, tmp_path / "partial", lacking="decoder.conv_in.weight")
    normalised = copied(folder, tmp_path / "normalised", config={"latents_mean": [0.1] * 4, "latents_std": [1.2] * 4})
    (tmp_path / "empty").mkdir()
    broken = Path(copied(folder, tmp_path / "broken")) / "diffusion_pytorch_model.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    for source, expected in (
        (transformer, "holds a SD3Transformer2DModel; expected AutoencoderKL or AutoencoderTiny"),
        (normalised, "config.json has latents_mean and latents_std, and latents that are scaled channel by channel"),
        (partial, "lack 'decoder.conv_in.weight'"),
        (str(tmp_path / "empty"), "not in diffusers' layout"),
        (str(tmp_path / "nowhere"), "no such folder"),
        (str(tmp_path / "broken"), "cannot read the weights"),
        ("owner/not-here@main", "it cannot be had from the Hub"),
    ):
        with pytest.raises(UserError, match=r"^\[model.autoencoder\] path: ") as caught:
            load_vae(source)
        assert len(caught.value.lines) == 1 and "\n" not in str(caught.value) and expected in str(caught.value)


@pytest.mark.real_data
def test_a_picture_survives_taesd3(real_data: Path) -> None:
    vae = load_vae(str(real_data / "weights" / "taesd3"))
    autoencoder = Autoencoder(vae, (1, 64, 64))
    rows, columns = torch.meshgrid(torch.linspace(-3, 3, 64), torch.linspace(-4, 4, 64), indexing="ij")
    x = ((rows**2).cos() * columns.sin() * 0.8)[None, None]

    z = autoencoder.encode(x)

    assert z.shape == (1, 16, 8, 8) and 0.3 < z.std() < 3
    assert torch.equal(z, vae.encode(x.expand(-1, 3, -1, -1)).latents)  # TAESD's latents are scaled already
    error = (autoencoder.decode(z) - x).square().mean()
    assert 10 * (4 / error).log10() > 25  # dB; the range is 2
