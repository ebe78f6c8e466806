"""Runs and outputs that no fault has met, to compare with."""

from pathlib import Path

import pytest

from tests.chaos.faults import command
from tests.chaos.trainings import training
from tests.training.test_latent_runs import save_vae


@pytest.fixture(scope="session")
def undisturbed(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with validation and rotation of checkpoints."""
    run = tmp_path_factory.mktemp("chaos") / "undisturbed"
    finished = command(*training(experiment_file, run))
    assert finished.exit_codes == [0], finished.output
    return run


@pytest.fixture(scope="session")
def latent(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides for a run in the latent space of a small VAE."""
    vae = save_vae(tmp_path_factory.mktemp("chaos") / "vae")
    return ("model.autoencoder.enabled=true", "model.architecture.patch_size=[4, 4]", f"model.autoencoder.path={vae}")
