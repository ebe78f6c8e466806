"""The experiment that a command is given as a file, a run or a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
    from signal_diffusion.config.schema import Experiment

__all__ = ["file_of", "loaded"]


def loaded(path: Path, overrides: Sequence[str] = ()) -> Experiment | AutoencoderExperiment:
    """The experiment of a file, a run or a checkpoint."""
    from signal_diffusion.config.loading import check_keys

    file = file_of(path)
    check_keys(file, overrides)  # before the next import, which takes seconds
    from signal_diffusion.experiment.loading import load_any_experiment

    return load_any_experiment(file, overrides)


def file_of(path: Path) -> Path:
    """The path itself or, for the folder of a run or a checkpoint, its experiment file."""
    from signal_diffusion.config.sources import CONFIG_NAME

    file = path / CONFIG_NAME if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise UserError(f"{path}: has no {CONFIG_NAME}; expected an experiment file, a run or a checkpoint")
    return file
