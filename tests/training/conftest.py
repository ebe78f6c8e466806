"""A run whose samples are compared with validation examples, shared by the tests of this folder."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def compared_run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 4 steps with `comparisons.COMPARED`."""
    from signal_diffusion.training.diffusion import train
    from tests.training.comparisons import COMPARED

    folder = tmp_path_factory.mktemp("runs") / "compared"
    train(experiment_file, output_dir=folder, overrides=COMPARED)
    return folder


@pytest.fixture(scope="session")
def compared(compared_run: Path) -> "Trained":  # noqa: F821
    """Its model."""
    from signal_diffusion.sampling.trained import load_trained

    return load_trained(compared_run)
