"""The shipped experiments at their real size and smaller, and what the quickstart learns."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from signal_diffusion.cli import app
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import Examples
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.sampling import job
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training import latent_cache
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.trainer import Trainer
from tests.models import tiny
from tests.training.runs import largest_difference, metrics_of

CONFIGS = Path(__file__).parents[2] / "config" / "diffusion"
SHIPPED = sorted(CONFIGS.glob("*-*.toml"))
BACKBONES, DATA = ("dit", "hourglass", "localmamba", "sd35"), ("db-only", "db-iq", "db-polar", "timeseries")
ONE_STEP = (
    *("data.loading.batch_size=1", "training.max_steps=1", "training.mixed_precision=no", "compute.device=cpu"),
    *("training.validation.enabled=false", "training.visualization.enabled=false", "training.ema.enabled=false"),
    "training.gradient_checkpointing=false",  # a third more work, for memory that a batch of one does not need
)


def shipped(quick: tuple[str, ...]) -> list[Any]:
    """The shipped experiments; those whose names do not end in one of `quick` are marked slow."""
    return [
        pytest.param(path, id=path.stem, marks=() if path.stem.endswith(quick) else pytest.mark.slow)
        for path in SHIPPED
    ]


def test_there_is_an_experiment_for_each_backbone_and_representation() -> None:
    assert {path.stem for path in SHIPPED} == {f"{backbone}-{data}" for backbone in BACKBONES for data in DATA}
    for path in SHIPPED:
        experiment = load_experiment(path)
        assert f"{experiment.model.name}-{experiment.data.representation}" == path.stem


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE with latents of SD3.5's size, 16 channels at an eighth of the resolution, with random weights."""
    from diffusers import AutoencoderKL

    folder = tmp_path_factory.mktemp("vae")
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    channels = {"block_out_channels": [8] * 4, "norm_num_groups": 4, "latent_channels": 16}
    AutoencoderKL(**blocks, **channels, scaling_factor=1.5305, shift_factor=0.0609).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_cache, "cache_folder", lambda cache_dir, name, **_: tmp_path / "cache" / name)


def offline(path: Path, datasets: dict[str, Path], vae: Path) -> tuple[str, ...]:
    """Overrides that a shipped experiment needs without the Hub."""
    root = f"data.paths.root={datasets[load_experiment(path).data.representation]}"
    return (root, "model.pretrained=", f"model.autoencoder.path={vae}") if "sd35" in path.stem else (root,)


@pytest.mark.parametrize("path", shipped(("dit-timeseries", "hourglass-db-iq")))
def test_config_check_shows_the_cost_of_a_shipped_experiment_at_its_real_size(
    path: Path, datasets: dict[str, Path], vae: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [word for override in offline(path, datasets, vae) for word in ("--set", override)]
    overrides += ["--set", "data.loading.batch_size=1"]
    app(["config", "check", str(path), *overrides], standalone_mode=False)
    printed = capsys.readouterr().out
    assert re.search(r"parameters +[\d,]{9,}\n", printed) and re.search(r"[\d,.]+ GFLOP per example", printed)


SMALLER = {
    "dit": "num_layers=1 num_attention_heads=2 attention_head_dim=8",
    "hourglass": "depths=[1,1] widths=[16,32] kernel_sizes=[3,0] attention_head_dim=16 mapping_width=32",
    "localmamba": "depths=[1,1] dims=[16,32] d_state=2",
    "sd35": "num_layers=2 num_attention_heads=2 attention_head_dim=8 joint_attention_dim=16 pooled_projection_dim=16",
}
FEW_STEPS = (
    *("data.loading.batch_size=2", "training.max_steps=2", "training.checkpointing.interval=1", "compute.device=cpu"),
    *("training.validation.num_examples=4", "training.visualization.num_samples=2", "training.ema.update_every=1"),
    *("generation.sampling.steps=2", "generation.sampling.guidance_scale=2", "logging.tensorboard=false"),
)


@pytest.mark.parametrize("path", shipped(("dit-timeseries", "hourglass-db-iq")))
def test_a_smaller_shipped_experiment_trains_resumes_and_samples_signals(
    path: Path, datasets: dict[str, Path], vae: Path, tmp_path: Path
) -> None:
    backbone, data = path.stem.split("-", 1)
    architecture = [f"model.architecture.{word}" for word in SMALLER[backbone].split()]
    if backbone != "sd35":
        architecture += [f"model.architecture.patch_size={'[1, 64]' if data == 'timeseries' else '[8, 8]'}"]
    overrides = (*FEW_STEPS, *architecture, *offline(path, datasets, vae))
    train(path, output_dir=tmp_path / "whole", overrides=overrides)
    shutil.copytree(tmp_path / "whole" / "checkpoint-1", tmp_path / "resumed" / "checkpoint-1")

    train(path, output_dir=tmp_path / "resumed", resume="latest", overrides=overrides)
    trained = load_trained(tmp_path / "resumed")
    job.sample(trained, request_values(trained.attributes, {}, 2), tmp_path / "out")

    assert largest_difference(tmp_path / "whole" / "checkpoint-2", tmp_path / "resumed" / "checkpoint-2") == 0
    with np.load(tmp_path / "out" / "samples.npz") as samples:
        assert samples["signals"].shape == ((2, 19, 2048) if data == "timeseries" else (2, 2048))
        assert np.isfinite(samples["signals"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_experiment_takes_a_step_at_its_real_size(
    path: Path, datasets: dict[str, Path], vae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Except sd35, which is a tenth as wide: its 2.2 billion parameters would take 36 GB."""
    monkeypatch.setattr(Trainer, "_save", lambda *_: None)  # would write and hash gigabytes
    narrower = ("model.architecture.num_attention_heads=2", "model.architecture.num_layers=4") * ("sd35" in path.stem)
    overrides = (*ONE_STEP, *narrower, *offline(path, datasets, vae))
    assert train(path, output_dir=tmp_path / "run", overrides=overrides)


@pytest.mark.slow
def test_the_quickstart_learns_the_difference_between_the_classes(synthetic_dataset: Path, tmp_path: Path) -> None:
    overrides = ("data.source=dataset", f"data.paths.root={synthetic_dataset}")
    overrides += ("training.max_steps=250", "data.loading.batch_size=12")
    quiet = ("training.visualization.enabled=false", "training.validation.num_examples=32")
    train(CONFIGS / "quickstart.toml", output_dir=tmp_path, overrides=(*overrides, *quiet))
    trained = load_trained(tmp_path)
    card = DatasetCard.load(synthetic_dataset)
    names = card.columns["label"]["names"]
    real = Examples(open_split(synthetic_dataset, "train"), shape=card.shape, attributes={"label": ("label", names)})
    images, attributes = real[list(range(len(real)))]
    alpha = slice(8, 13)  # Hz, a bin each
    levels = {}
    for index, name in enumerate(names):
        cond = request_values(trained.attributes, {"label": name}, 32).cond
        samples = trained.generator.generate(trained.model, cond, range(32))
        _, generated = trained.representation.mean_spectrum(samples)
        _, truth = trained.representation.mean_spectrum(images[attributes["label"] == index])
        assert (generated - truth)[1:46].square().mean().sqrt() < 2.0  # dB; two subjects differ by as much
        levels[name] = generated[alpha].mean()
    assert levels["relaxed"] > levels["alert"] + 0.5


def test_tensorboard_has_the_curves_the_preview_images_and_the_settings(experiment_file: Path, tmp_path: Path) -> None:
    overrides = ("logging.tensorboard=true", "training.visualization.enabled=true", "training.max_steps=4")
    train(experiment_file, output_dir=tmp_path, overrides=overrides)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    tags = events.Reload().Tags()
    assert {"train/loss", "train/learning_rate", "validation/loss", "validation/ema_loss"} <= set(tags["scalars"])
    assert tags["images"] == ["samples"]
    assert "_hparams_/session_start_info" in tags["tensors"] or "_hparams_/session_start_info" in str(
        events.summary_metadata
    )
    assert any("config.toml" in tag for tag in tags["tensors"])


ONE_LEVEL = {
    "hourglass": {"depths": [1], "widths": [64], "kernel_sizes": [3]},
    "localmamba": {"depths": [1], "dims": [64]},
}
"""One level is enough: another would be the same code, compiled again."""


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["dit", "hourglass", "localmamba"])
def test_compiled_training_gives_the_same_losses_and_saves_plain_names(
    backbone: str, experiment_file: Path, tmp_path: Path
) -> None:
    sizes = tiny.IMAGES[backbone] | ONE_LEVEL.get(backbone, {})
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in sizes.items())
    overrides = (
        *(f"model.name={backbone}", f"model.architecture={{{table}}}", "training.max_steps=4"),
        *("training.log_interval=1", "training.gradient_accumulation_steps=1"),
        "training.validation.enabled=false",  # would double the number of graphs
    )
    for name, compiled in (("eager", "false"), ("compiled", "true")):
        compile_model = f"training.performance.compile_model={compiled}"
        train(experiment_file, output_dir=tmp_path / name, overrides=(*overrides, compile_model))
    eager, compiled = (
        [row["train/loss"] for row in metrics_of(tmp_path / name) if "train/loss" in row]
        for name in ("eager", "compiled")
    )
    assert len(eager) == 4 and compiled == pytest.approx(eager, rel=1e-3)
    assert load_trained(tmp_path / "compiled").checkpoint.name == "checkpoint-4"
