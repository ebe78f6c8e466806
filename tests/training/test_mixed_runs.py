"""Runs on recordings with different electrodes: exact to resume, with previews, and refused where they cannot work."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import dataset_of
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.figures.dataset import draw_overview
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
