"""Recordings with four electrodes of correlated noise, and models that were trained on them with and without masks."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
import pytest

from signal_diffusion.data.preparing.options import PrepareOptions
from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.training.diffusion import train

ELECTRODES = ("Fz", "C3", "C4", "Pz")
SFREQ = 64.0
MASKS = ("training.masking.probability=1.0",)


def recorded(
    seconds: float = 10.0, sfreq: float = SFREQ, names: tuple[str, ...] = ELECTRODES, seed: int = 0
) -> mne.io.RawArray:
    """Noise that all electrodes have in common, and noise of their own, µV."""
    generator, samples = np.random.default_rng(seed), round(seconds * sfreq)
    signals = 15 * generator.standard_normal((1, samples)) + 10 * generator.standard_normal((len(names), samples))
    return mne.io.RawArray(signals * 1e-6, mne.create_info(list(names), sfreq, "eeg"), verbose="error")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows of one second, time series of three people."""
    folder = tmp_path_factory.mktemp("recordings")
    for person in range(3):
        recorded(seed=person).save(folder / f"person{person}_raw.fif", verbose="error")
    options = PrepareOptions(
        representation="timeseries",
        channels=",".join(ELECTRODES),
        band=(1.0, 25.0),
        rate=SFREQ,
        window=64,
        splits=(0.4, 0.3, 0.3),
    )
    output = tmp_path_factory.mktemp("data") / "timeseries"
    prepare([folder], output, options)
    return output


def trained(experiment_file: Path, dataset: Path, folder: Path, *overrides: str) -> Path:
    words = (f"data.paths.root={dataset}", "data.representation=timeseries", "model.architecture.patch_size=[1,16]")
    quiet = ("training.max_steps=2", "training.validation.enabled=false", "model.conditioning.type=none")
    train(experiment_file, output_dir=folder, overrides=(*words, *quiet, *overrides))
    return folder


@pytest.fixture(scope="session")
def masked_run(experiment_file: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that takes given values."""
    return trained(experiment_file, dataset, tmp_path_factory.mktemp("runs") / "masked", *MASKS)


@pytest.fixture(scope="session")
def plain_run(experiment_file: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that was trained without masks."""
    return trained(experiment_file, dataset, tmp_path_factory.mktemp("runs") / "plain")


@pytest.fixture(scope="session")
def by_place(experiment_file: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> SignalDiffusionPipeline:
    """A model that takes given values and knows electrodes by their places."""
    folder, places = tmp_path_factory.mktemp("runs") / "places", "model.conditioning.electrodes=position"
    return SignalDiffusionPipeline.from_pretrained(trained(experiment_file, dataset, folder, *MASKS, places))


@pytest.fixture(scope="session")
def pipeline(masked_run: Path) -> SignalDiffusionPipeline:
    return SignalDiffusionPipeline.from_pretrained(masked_run)
