"""What tests of this folder share: a run whose samples are compared with validation examples, and an experiment."""

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


@pytest.fixture(scope="session")
def signals_file(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny experiment of 4 steps on time series."""
    from tests.conftest import TINY

    path = tmp_path_factory.mktemp("experiment") / "signals.toml"
    text = TINY.format(root=datasets["timeseries"]).replace("[16, 16]", "[1, 64]").replace("_steps = 15", "_steps = 4")
    text = text.replace("batch_size = 8", "batch_size = 1")  # two training examples
    path.write_text(text.replace("[data.paths]", '[data]\nrepresentation = "timeseries"\n[data.paths]'))
    return path
