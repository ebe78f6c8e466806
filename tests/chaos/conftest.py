"""Runs and outputs that no fault has met, to compare with."""

from pathlib import Path

import pytest

from tests.chaos.faults import events_of, succeed
from tests.chaos.trainings import training
from tests.data.preparing.test_prepare import ten_subjects
from tests.training.test_latent_runs import save_vae

__all__ = ["ten_subjects"]

COMMANDS = ("prepare", "sample", "export")
Made = dict[str, tuple[Path, int]]
"""Per command, its output, and how often it changes files."""


@pytest.fixture(scope="session")
def undisturbed(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with validation and rotation of checkpoints."""
    run = tmp_path_factory.mktemp("chaos") / "undisturbed"
    succeed(*training(experiment_file, run))
    return run


@pytest.fixture(scope="session")
def latent(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Overrides for a run in the latent space of a small VAE, with the cache of latents."""
    vae = save_vae(tmp_path_factory.mktemp("chaos") / "vae")
    table = {"enabled": "true", "cache_latents": "true", "path": str(vae)}
    return tuple(f"model.autoencoder.{key}={value}" for key, value in table.items())


@pytest.fixture(scope="session")
def arguments(undisturbed: Path, ten_subjects: Path) -> dict[str, list[object]]:
    """The words of each command, without its output."""
    few = ["--channels", "Fz,Cz,Pz", "--reference", "none", "--window", "256"]
    return {
        "prepare": ["prepare", ten_subjects, *few],
        "sample": ["sample", undisturbed, "--num", "6", "--batch-size", "1"],
        "export": ["export", undisturbed],
    }


@pytest.fixture(scope="session")
def made(arguments: dict[str, list[object]], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What each command makes undisturbed, and how often it changes files."""
    folders = {name: tmp_path_factory.mktemp("chaos") for name in COMMANDS}
    return {
        name: (folder / "out", events_of(folder, *arguments[name], "--output", folder / "out"))
        for name, folder in folders.items()
    }
