"""Runs in the latent space of a VAE: training, validation, previews, resuming and sampling at latent size."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from signal_diffusion.cli.config import check
from signal_diffusion.config.model_tables import Autoencoder as Table
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.experiment import network
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.loading import load_vae
from signal_diffusion.sampling import job
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training import diffusion, latent_shards, latents
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.latent_shards import LatentShard
from signal_diffusion.training.latents import Encoding
from signal_diffusion.training.objective import Denoising
from tests.latent_spaces import small_vae
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of

LATENT = (4, 8, 8)
TINY = ("model.autoencoder.enabled=true", "model.architecture.patch_size=[4, 4]", "training.max_steps=6")


def save_vae(folder: Path, seed: int = 0) -> Path:
    """Write a VAE with random weights that makes latents 8 times smaller."""
    small_vae(seed).save_pretrained(folder)
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


def test_training_and_validation_use_latents_and_noise_of_their_size(
    experiment_file: Path, vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = Method.loss, []

    def watched(self: Method, prediction: Tensor, x0: Tensor, noise: Tensor, *others: Tensor) -> Tensor:
        seen.append((tuple(prediction.shape[1:]), tuple(noise.shape[1:]), x0.clone()))
        return original(self, prediction, x0, noise, *others)

    monkeypatch.setattr(Method, "loss", watched)
    encoded: list[Tensor] = []
    monkeypatch.setattr(Encoding, "__call__", keeping(Encoding.__call__, encoded))
    train(experiment_file, output_dir=tmp_path, overrides=(*overrides(vae), "training.max_steps=4"))

    assert {shapes[:2] for shapes in seen} == {(LATENT, LATENT)}
    assert len(seen) == len(encoded) == 4 * 2 + 2 * 3  # micro-batches, and the validation's batches twice
    assert all(torch.equal(x0, z) for (_, _, x0), z in zip(seen, encoded, strict=True))


def keeping(function, kept):  # type: ignore[no-untyped-def]
    """Wrap a function to append its results to `kept`."""

    def wrapper(*arguments: object) -> Tensor:
        kept.append(function(*arguments))
        return kept[-1]

    return wrapper


def test_resume_in_latent_space_is_bit_identical(run: Path, experiment_file: Path, vae: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoint-3", tmp_path / "checkpoint-3")
    train(experiment_file, output_dir=tmp_path, resume="latest", overrides=overrides(vae))

    assert largest_difference(tmp_path / "checkpoint-6", run / "checkpoint-6") == 0
    assert metrics_of(tmp_path)[-1] == metrics_of(run)[-1]


def test_previews_and_samples_are_decoded_into_signals(run: Path, tmp_path: Path) -> None:
    trained = load_trained(run)
    sizes: list[tuple[int, ...]] = []
    trained.model.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[1:])))

    job.sample(trained, request_values(trained.attributes, {}, 3), tmp_path / "out")

    with np.load(tmp_path / "out" / "samples.npz") as samples:
        assert samples["tensors"].shape == (3, 1, 64, 64) and samples["signals"].shape == (3, 2048)
        assert np.isfinite(samples["signals"]).all()
    assert set(sizes) == {LATENT}
    assert (run / "samples" / "step-00000006.png").stat().st_size > 1000
    for image in (run / "samples" / "step-00000006-latents.png", tmp_path / "out" / "latents.png"):
        assert image.stat().st_size > 1000


def test_lora_adapts_a_transformer_with_the_vae_of_the_same_pipeline(experiment_file: Path, tmp_path: Path) -> None:
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
    trained = load_trained(tmp_path / "run")

    saved = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    assert all("lora_" in name or name.startswith("conditioning.") for name in saved)
    frozen = json.loads((tmp_path / "run" / "checkpoint-2" / "frozen.json").read_text())
    assert frozen.keys() == {"autoencoder", "pretrained"}
    assert trained.autoencoder is not None and trained.autoencoder.latent_shape == LATENT
    weights = trained.model.state_dict()["network.transformer_blocks.0.attn.to_q.base_layer.weight"]
    assert torch.equal(weights, transformer.transformer_blocks[0].attn.to_q.weight)


def test_the_log_shows_latent_size_and_padding(
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

    line = "4 × 3 × 256 latents by AutoencoderKL from examples of 1 × 19 × 2048, padded to 24 × 2048"
    assert capsys.readouterr().err.count(line) == 1
    trained = load_trained(tmp_path / "run")
    assert trained.autoencoder is not None and trained.autoencoder.latent_shape == (4, 3, 256)


def test_config_check_uses_the_latent_size(
    experiment_file: Path, vae: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check([experiment_file], list(overrides(vae)))
    assert "tokens           4 per example" in capsys.readouterr().out

    found = inspect(resolve(load_experiment(experiment_file, overrides(vae))))
    of_vae = sum(parameter.numel() for parameter in load_vae(str(vae)).parameters())
    positions, frequencies = 4 * 16, 128
    assert found.memory.state == 4 * (of_vae + 5 * found.parameters + positions + frequencies)
    with pytest.raises(UserError, match=r"\[model.architecture\] patch_size .* does not divide examples of 8 × 8"):
        inspect(resolve(load_experiment(experiment_file, (*overrides(vae), "model.architecture.patch_size=[16, 16]"))))


@pytest.mark.parametrize("path", ["nowhere/at/all", "$NOT_SET/vae", "owner/vae"])
def test_a_missing_vae_is_refused_before_anything_else(path: str, experiment_file: Path, tmp_path: Path) -> None:
    missing = (*TINY, f"model.autoencoder.path={path}", "data.paths.root=not there either")
    with pytest.raises(UserError, match=r"tiny.toml: \[model.autoencoder\] path: ") as caught:
        train(experiment_file, output_dir=tmp_path / "run", overrides=missing)
    assert len(caught.value.lines) == 1 and not (tmp_path / "run").exists()


def test_a_latent_space_without_a_vae_is_refused_when_the_file_is_read(experiment_file: Path) -> None:
    with pytest.raises(UserError, match=r"\[model.autoencoder\] path: expected the folder or Hub id"):
        load_experiment(experiment_file, TINY)


def test_a_missing_or_changed_vae_is_one_line(experiment_file: Path, tmp_path: Path) -> None:
    vae = save_vae(tmp_path / "vae")
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides(vae), "training.max_steps=1"))
    expected = load_trained(tmp_path / "run").autoencoder
    assert expected is not None and expected.scaling == 1.5
    save_vae(tmp_path / "vae", seed=1)
    for act in (
        lambda: load_trained(tmp_path / "run"),
        lambda: train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=overrides(vae)),
    ):
        with pytest.raises(UserError, match=r"toml: \[model.autoencoder\] path: other weights than .*checkpoint-1 was"):
            act()
    config = save_vae(tmp_path / "vae") / "config.json"
    config.write_text(config.read_text().replace('"scaling_factor": 1.5', '"scaling_factor": 0.5'))
    assert "0.5" in config.read_text()
    with pytest.raises(UserError, match=r"\[model.autoencoder\] path: other weights"):
        load_trained(tmp_path / "run")
    shutil.rmtree(tmp_path / "vae")
    with pytest.raises(UserError, match=r"checkpoint-1.*\[model.autoencoder\] path: .*no such folder"):
        load_trained(tmp_path / "run")


def test_a_checkpoint_identifies_its_vae_by_hash(run: Path, vae: Path) -> None:
    frozen = json.loads((run / "checkpoint-6" / "frozen.json").read_text())
    assert frozen.keys() == {"autoencoder"} and len(frozen["autoencoder"]) == 64
    trained = load_trained(run)
    table = trained.experiment.model.autoencoder
    assert table == Table(enabled=True, path=str(vae), sample_posterior=True, cache_latents=False, tiling=False)
    assert not any("vae" in name or "decoder" in name for name in trained.model.state_dict())


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


CACHED = "model.autoencoder.cache_latents=true"


def test_training_from_the_cache_gives_the_same_losses_as_encoding_on_the_fly(
    run: Path, experiment_file: Path, vae: Path, tmp_path: Path, own_cache: Path
) -> None:
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides(vae), CACHED))

    assert_same_metrics(tmp_path / "run", run)  # only `run` has drawn previews


def test_a_run_encoded_on_the_fly_resumes_from_the_cache_with_the_same_losses(
    run: Path, experiment_file: Path, vae: Path, tmp_path: Path, own_cache: Path
) -> None:
    shutil.copytree(run / "checkpoint-3", tmp_path / "run" / "checkpoint-3")
    shutil.copy(run / "metrics.jsonl", tmp_path / "run")
    train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=(*overrides(vae), CACHED))

    assert_same_metrics(tmp_path / "run", run)


def test_posterior_means_give_the_same_losses_from_the_cache_but_not_as_posterior_samples(
    run: Path, experiment_file: Path, vae: Path, tmp_path: Path, own_cache: Path
) -> None:
    mean = (*overrides(vae), "model.autoencoder.sample_posterior=false")
    train(experiment_file, output_dir=tmp_path / "fly", overrides=mean)
    train(experiment_file, output_dir=tmp_path / "cached", overrides=(*mean, CACHED))

    assert_same_metrics(tmp_path / "cached", tmp_path / "fly")
    assert metrics_of(run)[0]["train/loss"] != pytest.approx(metrics_of(tmp_path / "fly")[0]["train/loss"], rel=1e-3)


def assert_same_metrics(one: Path, other: Path) -> None:
    """Equal to one millionth: rounding in a convolution depends on the batch size."""
    rows, expected = metrics_of(one), metrics_of(other)
    assert [row.keys() for row in rows] == [row.keys() for row in expected] and len(rows) > 2
    values, expected_values = ([value for row in each for value in row.values()] for each in (rows, expected))
    assert values == pytest.approx(expected_values, rel=1e-6)


def test_resume_from_the_cache_is_bit_identical_without_encoding_or_measuring(
    experiment_file: Path, vae: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = (*overrides(vae), CACHED)
    train(experiment_file, output_dir=tmp_path / "run", overrides=wanted)
    shutil.copytree(tmp_path / "run" / "checkpoint-3", tmp_path / "resumed" / "checkpoint-3")
    monkeypatch.setattr(AutoencoderKL, "encode", None)
    monkeypatch.setattr(diffusion, "fit_statistics", None)

    train(experiment_file, output_dir=tmp_path / "resumed", resume="latest", overrides=wanted)

    assert largest_difference(tmp_path / "resumed" / "checkpoint-6", tmp_path / "run" / "checkpoint-6") == 0
    statistics = [(tmp_path / name / "checkpoint-6" / "latents.json").read_text() for name in ("run", "resumed")]
    assert statistics[0] == statistics[1]


def test_with_the_cache_the_vae_is_in_memory_only_for_previews(
    experiment_file: Path, vae: Path, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, decode, loaded = Denoising.__call__, Autoencoder.decode, WeakSet()
    training: list[int] = []
    decoding: list[int] = []

    def loading(source: str) -> AutoencoderKL:
        loaded.add(vae := load_vae(source))
        return vae

    def counting(self: Denoising, *arguments: object) -> Tensor:
        training.append(len(loaded))
        return original(self, *arguments)  # type: ignore[arg-type]

    def decoded(self: Autoencoder, z: Tensor) -> Tensor:
        x = decode(self, z)
        decoding.append(len(loaded))
        return x

    monkeypatch.setattr(network, "load_vae", loading)
    monkeypatch.setattr(Denoising, "__call__", counting)
    monkeypatch.setattr(Autoencoder, "decode", decoded)
    previews = (
        "training.visualization.enabled=true",
        "training.visualization.interval=1",
        "model.conditioning.type=none",
    )
    few = ("training.visualization.num_samples=1", "training.max_steps=2", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides(vae), CACHED, *previews, *few))

    assert training == [0] * 4  # the last two after the first previews
    assert decoding == [1] * 2


def test_a_vae_that_cannot_be_reloaded_only_skips_previews(
    experiment_file: Path,
    tmp_path: Path,
    own_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    vae, original = save_vae(tmp_path / "vae"), Denoising.__call__

    def pruned(self: Denoising, *arguments: object) -> Tensor:
        shutil.rmtree(vae, ignore_errors=True)
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Denoising, "__call__", pruned)
    previews = (
        "training.visualization.enabled=true",
        "training.visualization.interval=1",
        "model.conditioning.type=none",
    )
    few = ("training.visualization.num_samples=1", "training.max_steps=2")
    assert train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides(vae), CACHED, *previews, *few))

    printed = capsys.readouterr().out
    assert printed.count("warning: no preview at step 1: [model.autoencoder] path: ") == 1
    assert printed.count("warning: no preview at step 2: ") == 1
    assert (tmp_path / "run" / "checkpoint-2").is_dir() and not list((tmp_path / "run").glob("samples/*.png"))


def test_changed_data_that_are_accepted_are_encoded_again(
    experiment_file: Path,
    vae: Path,
    synthetic_dataset: Path,
    tmp_path: Path,
    own_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = shutil.copytree(synthetic_dataset, tmp_path / "data")
    wanted = (*overrides(vae), CACHED, f"data.paths.root={data}", "training.max_steps=1")
    train(experiment_file, output_dir=tmp_path / "first", overrides=wanted)
    [path] = (data / "train").iterdir()
    table = pq.read_table(path)
    pq.write_table(table.take(list(reversed(range(len(table))))), path)
    train(experiment_file, output_dir=tmp_path / "second", overrides=wanted, accept_changed_data=True)

    printed = capsys.readouterr().out
    assert printed.count("encoding 100 examples of train into ") == 2
    assert printed.count("encoding 76 examples of validation into ") == 1


def test_a_checkpoint_contains_the_statistics_for_decoding_samples(
    run: Path, experiment_file: Path, vae: Path, tmp_path: Path
) -> None:
    trained = load_trained(run)
    assert trained.autoencoder is not None and trained.autoencoder.statistics is not None
    stored = json.loads((run / "checkpoint-6" / "latents.json").read_text())
    assert stored == {
        "mean": list(trained.autoencoder.statistics.mean),
        "std": list(trained.autoencoder.statistics.std),
    }
    shutil.copytree(run / "checkpoint-6", tmp_path / "checkpoint-6")
    manifest = json.loads((run / "checkpoint-6" / "manifest.json").read_text())
    del manifest["files"]["latents.json"]
    (tmp_path / "checkpoint-6" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "checkpoint-6" / "latents.json").unlink()
    with pytest.raises(UserError, match=r"checkpoint-6: has no latents.json .*, so .*; start a new run$") as caught:
        load_trained(tmp_path / "checkpoint-6")
    assert len(caught.value.lines) == 1
    earlier = (*overrides(vae), f"model.pretrained={tmp_path / 'checkpoint-6'}")
    with pytest.raises(UserError, match=r"\[model\] pretrained: .*checkpoint-6: has no latents.json .*, so .*; use a"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=earlier)
    assert not (tmp_path / "run").exists()


def test_a_run_that_starts_from_another_keeps_its_latent_statistics(
    run: Path,
    experiment_file: Path,
    vae: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    earlier = f"model.pretrained={run / 'checkpoint-6'}"
    less = ("data.loading.max_train_examples=50", "training.max_steps=1", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path / "same", overrides=(*overrides(vae), earlier, *less))
    other = save_vae(tmp_path / "vae", seed=1)
    train(experiment_file, output_dir=tmp_path / "other", overrides=(*overrides(other), earlier, *less))

    kept, new = ((tmp_path / name / "checkpoint-1" / "latents.json").read_text() for name in ("same", "other"))
    assert kept == (run / "checkpoint-6" / "latents.json").read_text() != new
    warning = "with the statistics of model.pretrained"
    assert capsys.readouterr().err.count(warning) == 0

    monkeypatch.setattr(latents, "TOLERANCE", 1e-6)
    train(experiment_file, output_dir=tmp_path / "few", overrides=(*overrides(vae), earlier, *less))
    assert capsys.readouterr().err.count(warning) == 1


@pytest.mark.parametrize(("key", "then", "now"), [("sample_posterior", True, False), ("tiling", False, True)])
def test_encoding_settings_cannot_change_on_resuming(
    key: str, then: bool, now: bool, run: Path, experiment_file: Path, vae: Path, tmp_path: Path
) -> None:
    shutil.copytree(run / "checkpoint-3", tmp_path / "checkpoint-3")
    changed = (*overrides(vae), f"model.autoencoder.{key}={str(now).lower()}")
    with pytest.raises(UserError, match=rf"\[model.autoencoder\] {key}: {now}, but .* was trained with {then}"):
        train(experiment_file, output_dir=tmp_path, resume="latest", overrides=changed)


def test_augmentation_is_refused_with_cached_latents(experiment_file: Path, vae: Path) -> None:
    noise = "data.augmentation.gaussian_noise_std=0.1"
    load_experiment(experiment_file, (*overrides(vae), noise))
    with pytest.raises(UserError, match=r"\[model.autoencoder\] cache_latents: cached latents cannot be augmented"):
        load_experiment(experiment_file, (*overrides(vae), noise, CACHED))


def test_mistakes_are_reported_before_anything_is_encoded(
    experiment_file: Path, vae: Path, tmp_path: Path, own_cache: Path
) -> None:
    too_many = ("data.loading.batch_size=80", CACHED)
    with pytest.raises(UserError, match=r"\[data.loading\] batch_size: one step takes 160 examples"):
        train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides(vae), *too_many))
    assert not (own_cache / "latents").exists()


def test_with_the_cache_the_vae_takes_no_memory_during_training(experiment_file: Path, vae: Path) -> None:
    experiments = [load_experiment(experiment_file, (*overrides(vae), *more)) for more in ((), (CACHED,))]
    on_the_fly, from_cache = (inspect(resolve(each)) for each in experiments)
    of_vae = sum(parameter.numel() for parameter in load_vae(str(vae)).parameters())
    assert on_the_fly.memory.state - from_cache.memory.state == 4 * of_vae


@pytest.mark.parametrize("data", ["db-only", "db-iq", "db-polar", "timeseries"])
def test_sd35_without_the_hub_says_which_keys_to_set(data: str, tmp_path: Path) -> None:
    path = Path(__file__).parents[2] / "config" / "diffusion" / f"sd35-{data}.toml"
    with pytest.raises(UserError) as caught:
        train(path, output_dir=tmp_path / "run", overrides=("data.paths.root=not there either",))

    [line] = caught.value.lines
    assert line.startswith(
        f"{path}: [model] pretrained: stabilityai/stable-diffusion-3.5-medium: is not a local folder"
    )
    assert line.endswith(
        '; without the Hub, set model.pretrained to a local folder, or model.pretrained = "" and '
        "model.autoencoder.path to a VAE's folder"
    )
    assert not (tmp_path / "run").exists()


def train_with_small_shards(experiment: Path, run: Path, overrides: tuple[str, ...]) -> None:
    """In a separate process: shards of 16 examples, each with an empty file that names the rank that encoded it."""
    write = LatentShard.write

    def noted(self: LatentShard, parts: Any) -> None:
        write(self, parts)
        self.path.with_name(f"{self.path.stem} by {os.environ['RANK']}").touch()

    latent_shards.BYTES_PER_SHARD, LatentShard.write = 2**15, noted  # type: ignore[method-assign]
    train(experiment, output_dir=run, overrides=overrides)


@pytest.mark.slow
def test_two_processes_share_the_encoding_and_measure_the_same_statistics_as_one(
    experiment_file: Path, vae: Path, tmp_path: Path, own_cache: Path, synthetic_dataset: Path
) -> None:
    previews = ("training.visualization.enabled=true", "training.visualization.num_samples=3")
    shared = (*overrides(vae), CACHED, *previews, "data.loading.batch_size=4")
    finished = two_processes(train_with_small_shards, experiment_file, tmp_path / "two", shared)

    assert finished.exit_codes == [0, 0], finished.output
    assert finished.output.count("encoding 100 examples of train into ") == 1
    by = sorted(path.name for path in own_cache.rglob("* by *"))
    assert by == sorted([f"{n:05d} by {n % 2}" for count in (7, 5) for n in range(count)])  # two splits
    assert (tmp_path / "two" / "samples" / "step-00000006-latents.png").is_file()
    stored = json.loads((tmp_path / "two" / "checkpoint-6" / "latents.json").read_text())
    train(experiment_file, output_dir=tmp_path / "one", overrides=(*overrides(vae), CACHED, "training.max_steps=1"))
    by_one = json.loads((tmp_path / "one" / "checkpoint-1" / "latents.json").read_text())
    for name, values in by_one.items():  # up to rounding: larger shards are encoded in larger batches
        assert stored[name] == pytest.approx(values, rel=1e-6)
