"""Trained runs to sample from, shared by the tests of this folder."""

from pathlib import Path

import pytest

from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.training.diffusion import train


@pytest.fixture(scope="session")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model of the classes alert and relaxed."""
    folder = tmp_path_factory.mktemp("runs") / "classes"
    quiet = ("training.max_steps=4", "training.validation.enabled=false")
    train(experiment_file, output_dir=folder, overrides=quiet)
    return folder


@pytest.fixture(scope="session")
def electrodes_run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a db-iq model of electrode, gender and age; db-iq is converted to signals quickly."""
    root, folder = tmp_path_factory.mktemp("data") / "db-iq", tmp_path_factory.mktemp("runs") / "electrodes"
    prepare_synthetic(root, "db-iq", SyntheticOptions(num_subjects=5, num_windows=1))
    conditioning = ("model.conditioning.type=attributes", "model.conditioning.attributes=['electrode','gender','age']")
    data = (f"data.paths.root={root}", "data.representation=db-iq")
    quiet = ("training.max_steps=2", "training.validation.enabled=false")
    train(experiment_file, output_dir=folder, overrides=(*conditioning, *data, *quiet))
    return folder
