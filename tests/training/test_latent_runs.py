"""Runs in the latent space of a VAE: trained, validated, drawn, resumed and sampled at the size of the latents."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from signal_diffusion import pipeline
from signal_diffusion.cli.config import check
from signal_diffusion.data.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.experiment import load
from signal_diffusion.inspection import inspect
from signal_diffusion.models.autoencoder import Autoencoder, load_vae
from signal_diffusion.training.diffusion import train
from tests.training.runs import largest_difference, metrics_of

LATENT = (4, 8, 8)
TINY = ("model.autoencoder.enabled=true", "model.architecture.patch_size=[4, 4]", "training.max_steps=6")


def save_vae(folder: Path, seed: int = 0) -> Path:
    """Write a VAE with random weights that makes latents 8 times smaller."""
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4,) * 4,
        layers_per_block=1,
        norm_num_groups=2,
        latent_channels=4,
        scaling_factor=1.5,
        shift_factor=0.1,
    )
    vae.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vae(tmp_path_factory.mktemp("weights") / "vae")


def overrides(vae: Path) -> tuple[str, ...]:
    return (*TINY, f"model.autoencoder.path={vae}")


@pytest.fixture(scope="module")
def run(experiment_file: Path, vae: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    previews = ("training.visualization.enabled=true", "training.visualization.num_samples=2")
    assert train(experiment_file, output_dir=folder, overrides=(*overrides(vae), *previews))
    return folder


def test_training_and_validation_see_latents_and_noise_of_their_size(
    experiment_file: Path, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Method.loss, []

    def watched(self: Method, prediction: Tensor, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        seen.append((tuple(prediction.shape[1:]), tuple(noise.shape[1:]), x0.clone()))
        return original(self, prediction, x0, noise, t)

    monkeypatch.setattr(Method, "loss", watched)
    encoded: list[Tensor] = []
    monkeypatch.setattr(Autoencoder, "encode", keeping(Autoencoder.encode, encoded))
    train(experiment_file, output_dir=tmp_path, overrides=(*overrides(vae), "training.max_steps=4"))

    assert {shapes[:2] for shapes in seen} == {(LATENT, LATENT)}
    assert len(seen) == len(encoded) == 4 * 2 + 2 * 3  # micro-batches, and the validation's batches twice
    assert all(torch.equal(x0, z) for (_, _, x0), z in zip(seen, encoded, strict=True))


def keeping(function, kept):  # type: ignore[no-untyped-def]
    """The function, which keeps what it returns."""

    def kept_too(*arguments: object) -> Tensor:
        kept.append(function(*arguments))
        return kept[-1]

    return kept_too


def test_resume_in_latent_space_is_bit_identical(run: Path, experiment_file: Path, vae: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoint-3", tmp_path / "checkpoint-3")
    train(experiment_file, output_dir=tmp_path, resume="latest", overrides=overrides(vae))

    assert largest_difference(tmp_path / "checkpoint-6", run / "checkpoint-6") == 0
    assert metrics_of(tmp_path)[-1] == metrics_of(run)[-1]


def test_previews_and_samples_are_decoded_into_signals(run: Path, tmp_path: Path) -> None:
    trained = pipeline.load_trained(run)
    sizes: list[tuple[int, ...]] = []
    trained.model.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))

    pipeline.sample(trained, pipeline.conditions(trained.attributes, {}, 3), 3, tmp_path / "out")

    with np.load(tmp_path / "out" / "samples.npz") as samples:
        assert samples["tensors"].shape == (3, 1, 64, 64) and samples["signals"].shape == (3, 2048)
        assert np.isfinite(samples["signals"]).all()
    assert set(sizes) == {LATENT}
    assert (run / "samples" / "step-00000006.png").stat().st_size > 1000


def test_a_transformer_and_its_vae_come_from_one_pipeline_and_are_changed_by_lora(
    experiment_file: Path, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    transformer.save_pretrained(tmp_path / "pipeline" / "transformer")
    save_vae(tmp_path / "pipeline" / "vae")
    text = experiment_file.read_text()
    head, _, tail = text.partition("[model.architecture]")
    (tmp_path / "sd35.toml").write_text(f'{head}[model]\nname = "sd35"\n{tail[tail.index("[model.diffusion]") :]}')
    wanted = (
        f"model.pretrained={tmp_path / 'pipeline'}",
        "model.autoencoder.enabled=true",
        "model.lora.enabled=true",
        "model.lora.rank=2",
        "training.max_steps=2",
    )
    train(tmp_path / "sd35.toml", output_dir=tmp_path / "run", overrides=wanted)
    trained = pipeline.load_trained(tmp_path / "run")

    saved = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    assert all("lora_" in name or name.startswith("conditioning.") for name in saved)
    frozen = json.loads((tmp_path / "run" / "checkpoint-2" / "frozen.json").read_text())
    assert frozen.keys() == {"autoencoder", "pretrained"}
    assert trained.autoencoder is not None and trained.autoencoder.latent_shape == LATENT
    weights = trained.model.state_dict()["network.transformer_blocks.0.attn.to_q.base_layer.weight"]
    assert torch.equal(weights, transformer.transformer_blocks[0].attn.to_q.weight)


def test_the_log_tells_the_space_and_what_is_padded(
    experiment_file: Path, vae: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "timeseries"
    prepare_synthetic(data, "timeseries", SyntheticOptions(num_subjects=2, num_windows=2))
    series = (
        f"data.paths.root={data}",
        "data.representation=timeseries",
        "data.loading.batch_size=1",
        "model.architecture.patch_size=[1, 8]",
        "training.max_steps=1",
        "training.validation.enabled=false",
    )
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides(vae), *series))

    told = "4 × 3 × 256 latents by AutoencoderKL of examples of 1 × 19 × 2048, padded to 24 × 2048"
    assert capsys.readouterr().err.count(told) == 1
    trained = pipeline.load_trained(tmp_path / "run")
    assert trained.autoencoder is not None and trained.autoencoder.latent_shape == (4, 3, 256)


def test_the_experiment_is_checked_at_the_size_of_the_latents(
    experiment_file: Path, vae: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check([experiment_file], list(overrides(vae)))
    assert "tokens           4 per example" in capsys.readouterr().out

    found = inspect(load(experiment_file, overrides(vae)))
    of_vae = sum(parameter.numel() for parameter in load_vae(str(vae)).parameters())
    assert found.state_bytes == 4 * (of_vae + 5 * found.parameters)
    with pytest.raises(UserError, match=r"\[model.architecture\] patch_size .* does not divide examples of 8 × 8"):
        inspect(load(experiment_file, (*overrides(vae), "model.architecture.patch_size=[16, 16]")))


@pytest.mark.parametrize("path", ["nowhere/at/all", "$NOT_SET/vae", "owner/vae"])
def test_an_absent_vae_is_told_before_anything_is_done(path: str, experiment_file: Path, tmp_path: Path) -> None:
    absent = (*TINY, f"model.autoencoder.path={path}", "data.paths.root=not there either")
    with pytest.raises(UserError, match=r"tiny.toml: \[model.autoencoder\] path: ") as caught:
        train(experiment_file, output_dir=tmp_path / "run", overrides=absent)
    assert len(caught.value.lines) == 1 and not (tmp_path / "run").exists()


def test_a_latent_space_without_a_vae_is_told_when_the_file_is_read(experiment_file: Path) -> None:
    with pytest.raises(UserError, match=r"\[model.autoencoder\] path: expected the folder, or the Hub id"):
        load(experiment_file, TINY)


def test_a_vae_that_has_gone_or_changed_is_one_line(experiment_file: Path, tmp_path: Path) -> None:
    vae = save_vae(tmp_path / "vae")
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides(vae), "training.max_steps=1"))
    expected = pipeline.load_trained(tmp_path / "run").autoencoder
    assert expected is not None and expected.scaling == 1.5
    save_vae(tmp_path / "vae", seed=1)
    for act in (
        lambda: pipeline.load_trained(tmp_path / "run"),
        lambda: train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=overrides(vae)),
    ):
        with pytest.raises(UserError, match=r"toml: \[model.autoencoder\] path: other weights than .*checkpoint-1 was"):
            act()
    config = save_vae(tmp_path / "vae") / "config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 1.5', '"scaling_factor": 0.5'))
    assert "0.5" in config.read_text()
    with pytest.raises(UserError, match=r"\[model.autoencoder\] path: other weights"):
        pipeline.load_trained(tmp_path / "run")
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(UserError, match=r"checkpoint-1.*\[model.autoencoder\] path: .*no such folder"):
        pipeline.load_trained(tmp_path / "run")


def test_what_a_checkpoint_needs_is_told_by_hash(run: Path, vae: Path) -> None:
    frozen = json.loads((run / "checkpoint-6" / "frozen.json").read_text())
    assert frozen.keys() == {"autoencoder"} and len(frozen["autoencoder"]) == 64
    trained = pipeline.load_trained(run)
    assert dataclasses.asdict(trained.experiment.model.autoencoder) == {"enabled": True, "path": str(vae)}
    assert not any("vae" in name or "decoder" in name for name in trained.model.state_dict())
