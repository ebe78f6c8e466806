"""Runs on recordings with different electrodes: exact to resume, with previews, and refused where they cannot work."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.cli.evaluated_model import windows_of_model
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.montages import main_montage, montages_of
from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.experiment.dataset import dataset_of
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.figures.dataset import draw_overview
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.montages import with_electrodes
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.preview_checks import fault_of
from tests.data.preparing.absent import OPTIONS, write_recordings
from tests.training.runs import largest_difference, metrics_of


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    prepare([write_recordings(folder / "lab")], folder / "data", OPTIONS)
    return folder / "data"


@pytest.fixture(scope="module")
def overrides(mixed: Path) -> tuple[str, ...]:
    return (
        f"data.paths.root={mixed}",
        "data.representation=timeseries",
        "data.loading.batch_size=4",
        "model.conditioning.type=none",
        "model.conditioning.electrodes=position",
        "model.architecture.patch_size=[1,64]",
        "training.masking.probability=0.5",
        "training.max_steps=6",
        "training.validation.interval=3",
        "training.log_interval=1",
        "training.ema.update_every=1",
    )


@pytest.fixture(scope="module")
def uninterrupted(experiment_file: Path, overrides: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "uninterrupted"
    previews = ("training.visualization.enabled=true", "training.visualization.num_samples=2")
    train(experiment_file, output_dir=run, overrides=(*overrides, *previews, "training.visualization.interval=6"))
    return run


def test_a_run_on_a_mixed_dataset_learns_finite_weights_and_draws_previews(uninterrupted: Path) -> None:
    rows = metrics_of(uninterrupted)
    assert all(np.isfinite(row["train/loss"]) for row in rows if "train/loss" in row)
    assert all(np.isfinite(row["validation/loss"]) for row in rows if "validation/loss" in row)
    assert (uninterrupted / "samples" / "step-00000006.png").is_file()


def test_a_resume_in_the_middle_of_a_mixed_dataset_is_exact(
    uninterrupted: Path, experiment_file: Path, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted / "checkpoint-3", tmp_path / "run" / "checkpoint-3")
    train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=overrides)
    assert largest_difference(tmp_path / "run" / "checkpoint-6", uninterrupted / "checkpoint-6") == 0


def test_what_does_not_know_places_or_compares_windows_is_refused(
    experiment_file: Path, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    for other in ("model.conditioning.electrodes=name", "training.validation.num_generated=4"):
        with pytest.raises(UserError, match=r"some recordings of the dataset lack electrodes \(Cz, Pz\)") as caught:
            train(experiment_file, output_dir=tmp_path / "run", overrides=(*overrides, other))
        assert len(caught.value.lines) == 1 and not (tmp_path / "run").exists()


def test_samples_have_the_electrodes_of_most_examples_and_a_line_says_so(
    uninterrupted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = load_trained(uninterrupted)
    assert with_electrodes(trained, "") is trained  # most examples have all
    montages = [each | {"examples": {"train": len(each["absent"])}} for each in montages_of(trained.card)]
    card = replace(trained.card, preprocessing=trained.card.preprocessing | {"montages": montages})

    few = with_electrodes(replace(trained, card=card), "")

    samples = generate_samples(few, request_values(few.attributes, {}, 2))
    assert samples.ch_names == ["Fz", "C3", "C4"] and samples.signals is not None
    assert samples.signals.shape == (2, 3, 256) and samples.signals.isfinite().all()
    assert "sampling the 3 that most examples have (Fz, C3, C4); name others with --electrodes" in caplog.text


def test_a_run_is_judged_on_the_montage_that_most_real_windows_have(
    uninterrupted: Path, mixed: Path, tmp_path: Path
) -> None:
    montage = main_montage(DatasetCard.load(mixed), ["validation"])
    made = windows_of_model(uninterrupted, mixed, "validation", seed=0, steps=2, sets=None)
    real = read_dataset(mixed, "validation")
    assert made.ch_names == real.ch_names == tuple(montage) and len(made) == len(real)

    words = ["evaluate", str(uninterrupted), "--metrics", "lsd", "--steps", "2", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, catch_exceptions=False)

    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["windows"]["real"]["windows"] == report["windows"]["synthetic"]["windows"] == len(real)
    assert f"those with {len(montage)} of 5 electrodes" in report["notes"][0]  # of one person, so it is named


@pytest.mark.slow
def test_a_compiled_run_has_the_losses_of_an_eager_one_and_few_graphs(
    experiment_file: Path, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    few = (*overrides, "training.validation.enabled=false", "data.loading.batch_size=8", "training.max_steps=8")
    losses = []
    before = counters["stats"]["unique_graphs"]
    for compiled in ("false", "true"):
        run = tmp_path / compiled
        train(experiment_file, output_dir=run, overrides=(*few, f"training.performance.compile_model={compiled}"))
        losses.append([row["train/loss"] for row in metrics_of(run) if "train/loss" in row])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert 0 < counters["stats"]["unique_graphs"] - before <= 4  # batches have parts of more sizes


def test_only_defects_are_named_as_not_finite(mixed: Path, experiment_file: Path, overrides: tuple[str, ...]) -> None:
    examples = dataset_of(load_experiment(experiment_file, overrides).data).examples("train")
    everything = range(len(examples))
    assert not examples.not_finite(everything)
    assert isinstance(examples._tensors, torch.Tensor)
    examples._tensors[2, :, 0] = torch.nan  # Fz, which no recording lacks
    assert len(examples.not_finite(everything)) == 1


def test_collapsed_samples_are_noticed_although_real_examples_lack_electrodes() -> None:
    real = torch.randn(8, 1, 4, 64)
    real[::2, :, 1] = torch.nan
    assert not fault_of(torch.randn(4, 1, 4, 64), real)
    assert fault_of(1e-4 * torch.randn(4, 1, 4, 64), real).startswith("each sample is flat")


def test_a_mixed_dataset_is_drawn(mixed: Path, tmp_path: Path) -> None:
    draw_overview(mixed, tmp_path / "mixed.png", num=4)
    assert (tmp_path / "mixed.png").stat().st_size > 10_000 and len(DatasetCard.load(mixed).channels) == 5
