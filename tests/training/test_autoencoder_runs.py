"""Autoencoder runs: bit-identical resume, checkpoints that diffusers can load, errors before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest import mock

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from signal_diffusion.config.autoencoder_tables import KlArchitecture
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.reconstruction import BANDS
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.loading import load_vae
from signal_diffusion.models.autoencoders.trainable import KlAutoencoder
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training import autoencoder as entry
from signal_diffusion.training import diffusion
from signal_diffusion.training.autoencoder import load, network_of, train
from signal_diffusion.training.locking import LOCK_NAME
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of

CONFIGS = Path(__file__).parents[2] / "config" / "autoencoder"
DIT = CONFIGS.parent / "diffusion" / "dit-db-iq.toml"
SHIPPED = sorted(CONFIGS.glob("*.toml"))
QUICK = ("eeg-db-only", "eeg-timeseries")
"""One whose examples are padded, and one whose are not."""
DATA = ("db-only", "db-iq", "db-polar", "timeseries")
TINY = (
    *("compute.device=cpu", "training.mixed_precision=no", "logging.tensorboard=false", "training.ema.update_every=1"),
    *("model.architecture.block_out_channels=[4, 4, 8, 8]", "model.architecture.norm_num_groups=2"),
    *("model.architecture.latent_channels=4", "data.loading.batch_size=2", "data.loading.max_train_examples=14"),
    *("training.max_steps=5", "training.checkpointing.interval=1", "training.checkpointing.total_limit=9"),
    *("training.validation.interval=2", "training.validation.num_examples=3", "training.visualization.num_samples=2"),
    *("training.visualization.interval=4", "training.gradient_accumulation_steps=2", "training.log_interval=2"),
)


@pytest.fixture(scope="module")
def run(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    overrides = (*TINY, f"data.paths.root={datasets['db-iq']}")
    assert train(CONFIGS / "eeg-db-iq.toml", output_dir=folder, overrides=overrides)
    return folder


@pytest.mark.parametrize(
    "step", [2, pytest.param(3, marks=pytest.mark.slow)], ids=lambda step: f"step {step} of epochs of 3"
)
def test_resume_is_bit_identical(step: int, run: Path, datasets: dict[str, Path], tmp_path: Path) -> None:
    resumed = tmp_path / "run"
    shutil.copytree(run / f"checkpoint-{step}", resumed / f"checkpoint-{step}")
    shutil.copy(run / "metrics.jsonl", resumed)

    train(
        CONFIGS / "eeg-db-iq.toml",
        output_dir=resumed,
        resume="latest",
        overrides=(*TINY, f"data.paths.root={datasets['db-iq']}"),
    )

    assert largest_difference(resumed / "checkpoint-5", run / "checkpoint-5") == 0
    assert metrics_of(resumed) == metrics_of(run)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        assert (resumed / "checkpoint-5" / name).read_bytes() == (run / "checkpoint-5" / name).read_bytes()


def test_diffusers_loads_a_checkpoint_with_the_averaged_weights(run: Path) -> None:
    checkpoint = run / "checkpoint-5"
    vae = AutoencoderKL.from_pretrained(checkpoint)
    averaged, last = load_file(checkpoint / "ema.safetensors"), load_file(checkpoint / "model.safetensors")

    assert all(torch.equal(value, averaged[f"vae.{name}"]) for name, value in vae.state_dict().items())
    assert not all(torch.equal(value, last[f"vae.{name}"]) for name, value in vae.state_dict().items())
    assert not vae.config.mid_block_add_attention and vae.config.latent_channels == 4


def test_scaling_and_shift_give_training_latents_mean_0_and_variance_1(run: Path, datasets: dict[str, Path]) -> None:
    experiment = load(run / "config.toml")
    card = DatasetCard.load(datasets["db-iq"])
    x = Dataset(data=experiment.data, root=datasets["db-iq"], card=card).examples("train", limit=14)[list(range(14))][0]

    vae = Autoencoder(load_vae(str(run / "checkpoint-5")), card.shape)
    z = torch.cat([vae.encode(x, torch.Generator().manual_seed(seed)) for seed in range(20)])

    assert z.shape[1:] == (4, 8, 8)
    assert abs(z.mean().item()) < 0.02 and abs(z.var().item() - 1) < 0.02


def test_a_loaded_checkpoint_reconstructs_like_the_trained_network(run: Path, datasets: dict[str, Path]) -> None:
    experiment, card = load(run / "config.toml"), DatasetCard.load(datasets["db-iq"])
    network = network_of(experiment, card)
    network.load_state_dict(load_file(run / "checkpoint-5" / "ema.safetensors"))
    x = torch.rand(2, *card.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    vae = Autoencoder(load_vae(str(run / "checkpoint-5")), card.shape)
    with torch.no_grad():
        expected, *_ = network(x)
    torch.testing.assert_close(vae.decode(vae.encode(x)), expected, atol=1e-5, rtol=0)


def test_validation_reports_errors_of_image_signal_and_bands(run: Path) -> None:
    [row, *_] = [row for row in metrics_of(run) if "validation/loss" in row]
    names = {"loss", "kl", "psnr", "correlation", *(f"band_error_{band}" for band in BANDS)}
    assert {f"validation/{ema}{name}" for name in names for ema in ("", "ema_")} == row.keys() - {"step"}
    assert (run / "samples" / "step-00000004.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in SHIPPED],
)
def test_a_smaller_shipped_experiment_takes_a_step_and_reconstructs_the_same_when_loaded(
    path: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    """Including time series, which are padded to 24 electrodes, or to 20 (x4)."""
    experiment = load(path)
    channels = f"model.architecture.block_out_channels={[4] * len(experiment.model.architecture.block_out_channels)}"
    dataset = datasets[experiment.data.representation]
    root = f"data.paths.root={dataset}"
    one = ("data.loading.batch_size=1", "training.gradient_accumulation_steps=1", "training.max_steps=1")
    assert train(path, output_dir=tmp_path / "run", overrides=(*TINY, channels, root, *one))

    card, checkpoint = DatasetCard.load(dataset), tmp_path / "run" / "checkpoint-1"
    network = network_of(load(checkpoint / "config.toml"), card)
    network.load_state_dict(load_file(checkpoint / "ema.safetensors"))
    assert any(network.padding) == (dataset.name == "timeseries")
    x = torch.rand(1, *card.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vae = Autoencoder(load_vae(str(checkpoint)), card.shape)
    with torch.no_grad():
        torch.testing.assert_close(vae.decode(vae.encode(x)), network(x)[0], atol=1e-5, rtol=0)


def test_there_is_an_experiment_for_each_representation_and_compression() -> None:
    expected = {f"eeg-{data}{suffix}": (data, levels) for data in DATA for suffix, levels in (("", 4), ("-x4", 3))}
    found = {path.stem: load(path) for path in SHIPPED}
    assert expected == {
        stem: (each.data.representation, len(each.model.architecture.block_out_channels))
        for stem, each in found.items()
    }


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_autoencoder_compresses_and_has_a_few_million_parameters(
    path: Path, datasets: dict[str, Path]
) -> None:
    experiment = load(path)
    card = DatasetCard.load(datasets[experiment.data.representation])
    network = network_of(experiment, card)
    assert 5e5 < sum(parameter.numel() for parameter in network.parameters()) < 3e6
    assert torch.Size(network.latent_shape).numel() < torch.Size(card.shape).numel()


def test_resume_with_another_architecture_or_loss_is_refused(
    run: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    other = ("model.architecture.latent_channels=8", "model.loss.reconstruction=l1", "model.loss.kl_weight=0.5")
    checkpoint = run / "checkpoint-5"
    with pytest.raises(UserError) as caught:
        train(
            CONFIGS / "eeg-db-iq.toml",
            output_dir=tmp_path / "run",
            resume=str(checkpoint),
            overrides=(*TINY, f"data.paths.root={datasets['db-iq']}", *other),
        )
    where = CONFIGS / "eeg-db-iq.toml"
    then = f"but {checkpoint} was trained with"
    assert caught.value.lines == (
        f"{where}: [model.architecture] latent_channels: 8, {then} 4; expected the same, or a new run",
        f"{where}: [model.loss] reconstruction: 'l1', {then} 'l2'; expected the same, or a new run",
        f"{where}: [model.loss] kl_weight: 0.5, {then} 1e-06; expected the same, or a new run",
    )


def test_resume_with_another_optimizer_does_not_advise_model_pretrained(
    run: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    overrides = (*TINY, f"data.paths.root={datasets['db-iq']}", "training.optimizer.type=adam")
    with pytest.raises(UserError, match=r"reset_optimizer = true to start with a fresh state, or start a new run$"):
        train(CONFIGS / "eeg-db-iq.toml", output_dir=tmp_path, resume=str(run / "checkpoint-5"), overrides=overrides)


def test_sampling_or_starting_from_an_autoencoder_says_that_it_is_one(
    run: Path, datasets: dict[str, Path], tmp_path: Path
) -> None:
    fact = rf"{run}/checkpoint-\d+/config.toml: is an autoencoder experiment; expected a diffusion experiment$"
    with pytest.raises(UserError, match=fact):
        load_trained(run / "checkpoint-5")
    overrides = (f"model.pretrained={run / 'checkpoint-5'}", f"data.paths.root={datasets['db-iq']}")
    with pytest.raises(UserError, match=fact):
        diffusion.train(DIT, output_dir=tmp_path / "run", overrides=(*overrides, "training.mixed_precision=no"))


def test_a_run_directory_that_another_command_trains_in_is_refused(datasets: dict[str, Path], tmp_path: Path) -> None:
    root = f"data.paths.root={datasets['db-iq']}"
    with (
        filelock.FileLock(tmp_path / LOCK_NAME),
        pytest.raises(UserError, match="another command is training in this run directory"),
    ):
        train(CONFIGS / "eeg-db-iq.toml", output_dir=tmp_path, overrides=(*TINY, root))


def test_the_closing_line_names_the_best_checkpoint(
    run: Path, datasets: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both after a last step that worsened the weights, and when that run is resumed at its end."""
    resumed = tmp_path / "run"
    shutil.copytree(run, resumed)
    diverging = (
        "training.scheduler.type=constant",
        "training.optimizer.learning_rate=10.0",
        "training.scheduler.warmup_steps=0",
    )
    for overrides in ((*diverging, "training.max_steps=6", "training.ema.enabled=false"), ("training.max_steps=6",)):
        root = f"data.paths.root={datasets['db-iq']}"
        train(
            CONFIGS / "eeg-db-iq.toml",
            output_dir=resumed,
            resume="latest",
            overrides=(*TINY, root, *overrides),
        )
        best = json.loads((resumed / "checkpoint-6" / "progress.json").read_text())["best_step"]
        assert best < 6
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.endswith(f"--set model.autoencoder.path={resumed}/checkpoint-{best}")


def test_windows_shorter_than_an_stft_frame_are_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for split, count in {"train": 8, "validation": 4}.items():
        signals = 20 * torch.randn(count, 4, 32, generator=torch.Generator().manual_seed(count))
        pq.write_table(pa.table({"signal": signals.tolist()}), tmp_path / "data" / f"{split}.parquet")
    small = (*TINY, "data.sampling_rate=100.0", f"data.paths.root={tmp_path / 'data'}", "training.max_steps=1")

    with pytest.raises(
        UserError, match=r"\[model.loss\] stft_weight: windows of 32 samples are shorter than .* frame \(64 samples\)"
    ):
        train(CONFIGS / "eeg-timeseries.toml", output_dir=tmp_path / "run", overrides=small)
    assert not (tmp_path / "run").exists()
    without = (*small, "model.loss.stft_weight=0")
    assert train(CONFIGS / "eeg-timeseries.toml", output_dir=tmp_path / "run", overrides=without)


def test_scaling_and_shift_are_measured_on_at_least_64_examples_however_large(monkeypatch: pytest.MonkeyPatch) -> None:
    examples = mock.MagicMock(shape=(3, 1024, 1024))
    examples.__len__.return_value = 1000
    monkeypatch.setattr(KlAutoencoder, "in_diffusers_format", lambda self, x: {})
    entry._Exporter(examples)(KlAutoencoder(KlArchitecture(), (3, 8, 8)))
    [[rows], _] = examples.__getitem__.call_args
    assert len(rows) == 64


def test_bf16_with_gradient_checkpointing_keeps_the_weights_in_fp32(datasets: dict[str, Path], tmp_path: Path) -> None:
    overrides = (
        *TINY,
        f"data.paths.root={datasets['db-polar']}",
        *("training.mixed_precision=bf16", "training.gradient_checkpointing=true", "training.max_steps=1"),
    )
    assert train(CONFIGS / "eeg-db-polar.toml", output_dir=tmp_path / "run", overrides=overrides)
    assert {value.dtype for value in load_file(tmp_path / "run" / "checkpoint-1" / "ema.safetensors").values()} == {
        torch.float32
    }


@pytest.mark.slow
def test_two_processes_validate_preview_and_save_like_one(datasets: dict[str, Path], tmp_path: Path) -> None:
    """Two processes see the batches of one with twice the accumulation; only the noise of the latents differs."""
    overrides = (*TINY, f"data.paths.root={datasets['db-iq']}", "training.max_steps=2")
    at_start = ("training.validation.at_start=true",)
    one, two = tmp_path / "one", tmp_path / "two"
    train(CONFIGS / "eeg-db-iq.toml", output_dir=one, overrides=(*overrides, *at_start))
    shared = (*overrides, *at_start, "training.gradient_accumulation_steps=1")
    finished = two_processes(train, CONFIGS / "eeg-db-iq.toml", output_dir=two, overrides=shared)

    assert finished.exit_codes == [0, 0], finished.output
    first, second = (metrics_of(run)[0] for run in (one, two))
    assert first["step"] == 0 and first == pytest.approx(second, abs=1e-4)
    assert (two / "samples" / "step-00000002.png").exists()
    assert AutoencoderKL.from_pretrained(two / "checkpoint-2").config.scaling_factor > 0


def test_images_without_exact_signals_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    pictures = PictureOptions(layout="mosaic", frequency="log")
    prepare_synthetic(tmp_path / "data", "db-iq", SyntheticOptions(num_subjects=3, num_windows=1, pictures=pictures))
    with pytest.raises(
        UserError, match=r"\[model.loss\] stft_weight: the signals cannot be computed exactly from these images"
    ):
        train(
            CONFIGS / "eeg-db-iq.toml",
            output_dir=tmp_path / "run",
            overrides=(*TINY, f"data.paths.root={tmp_path / 'data'}"),
        )
    assert not (tmp_path / "run").exists()
