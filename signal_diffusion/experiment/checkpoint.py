"""How a checkpoint was trained, read from its files. Each file is read once, when it is first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from signal_diffusion.checkpoints import DAMAGED, MANIFEST
from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import CONFIG_NAME, load_autoencoder_experiment, load_experiment
from signal_diffusion.models.autoencoders.latent_statistics import LatentStatistics
from signal_diffusion.untrusted import read_json

__all__ = ["AVERAGE_NAME", "FROZEN_NAME", "LATENTS_NAME", "AverageOf", "Checkpoint"]

FROZEN_NAME = "frozen.json"
"""File of a checkpoint: hashes of the weights that it needs but does not contain."""
LATENTS_NAME = "latents.json"
"""File of a checkpoint: the `LatentStatistics` that normalise its network's latents."""

AVERAGE_NAME = "average.json"
"""File of a checkpoint that post-hoc EMA made: the `AverageOf` its averaged weights."""


@dataclass(frozen=True, kw_only=True)
class AverageOf:
    """How the averaged weights of a checkpoint were made after training."""

    sigma_rel: float
    """Width of the average, relative to the length of training."""
    profile_error: float
    """Norm of the error of its profile over time, relative to that of the profile."""
    snapshots: int
    validation_loss: float | None = None
    """If it was measured."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder, with the experiment and the dataset that it was trained with."""

    folder: Path

    def __str__(self) -> str:
        """The folder, as shown in errors."""
        return str(self.folder)

    @property
    def exists(self) -> bool:
        """Whether the folder contains a checkpoint of this package."""
        return (self.folder / MANIFEST).is_file()

    @cached_property
    def experiment(self) -> schema.Experiment:
        """The experiment of a diffusion model; a `UserError` if the checkpoint is of an autoencoder."""
        return load_experiment(self.folder / CONFIG_NAME)

    @cached_property
    def autoencoder_experiment(self) -> AutoencoderExperiment:
        """The experiment of an autoencoder; a `UserError` if the checkpoint is of a diffusion model."""
        return load_autoencoder_experiment(self.folder / CONFIG_NAME)

    def experiment_like(
        self, experiment: schema.Experiment | AutoencoderExperiment
    ) -> schema.Experiment | AutoencoderExperiment:
        """Its experiment, which has to be of the same kind as this one."""
        return self.experiment if isinstance(experiment, schema.Experiment) else self.autoencoder_experiment

    @cached_property
    def card(self) -> DatasetCard:
        """The card of the dataset that it was trained on."""
        return DatasetCard.load(self.folder)

    @property
    def min_channels(self) -> int:
        """3 if it was trained on RGB images, so that grey ones are converted to RGB; otherwise 1."""
        return self.card.min_channels if (self.folder / CARD_NAME).is_file() else 1

    @cached_property
    def frozen(self) -> dict[str, str]:
        """SHA-256 of the frozen weights that the checkpoint does not contain, by the names of `pretrained.KEYS`."""
        path = self.folder / FROZEN_NAME
        return read_json(path, dict[str, str], DAMAGED) if path.is_file() else {}

    @cached_property
    def average(self) -> AverageOf | None:
        """How its averaged weights were made, if not during training."""
        path = self.folder / AVERAGE_NAME
        return read_json(path, AverageOf, DAMAGED) if path.is_file() else None

    def latent_statistics(self, advice: str) -> LatentStatistics:
        """The statistics that normalise its network's latents; a `UserError` ending in `advice` if they are unknown."""
        path = self.folder / LATENTS_NAME
        if not path.is_file():
            raise UserError(
                f"{self.folder}: has no {LATENTS_NAME} (an earlier version wrote it), so the normalisation of its "
                f"latents is unknown; {advice}"
            )
        return read_json(path, LatentStatistics, DAMAGED)
