"""From a run's folder to a model that is ready to sample from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from signal_diffusion import experiment as experiments
from signal_diffusion.config import schema
from signal_diffusion.data.dataset import DatasetCard
from signal_diffusion.data.spectrogram import Representation, representation_of
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning import Attribute
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.training.checkpoints import list_checkpoints, load_weights, verify

__all__ = ["Trained", "load_trained"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A checkpoint, ready to sample from."""

    checkpoint: Path
    experiment: schema.Experiment
    card: DatasetCard
    representation: Representation
    attributes: tuple[Attribute, ...]
    method: Method
    model: Denoiser


def load_trained(path: Path, *, use_ema: bool = True) -> Trained:
    """The model of a checkpoint's folder, or of the newest whole checkpoint of a run's folder.

    Nothing but the checkpoint is read: it has the experiment and the dataset's card beside the weights.

    Raises
    ------
    UserError
        Where there is no checkpoint, or it is damaged or of another architecture.
    """
    if path.is_dir() and not path.name.startswith("checkpoint-"):
        checkpoints = list_checkpoints(path)
        if not checkpoints:
            raise UserError(f"{path}: there is no checkpoint in this folder; expected a run's or a checkpoint's folder")
        path = checkpoints[-1]
    verify(path)
    experiment = experiments.load(path / "config.toml")
    card = DatasetCard.load(path)
    model = experiments.model_of(experiment.model, card, experiment.data.columns)
    load_weights(model, path, use_ema=use_ema)
    return Trained(
        checkpoint=path,
        experiment=experiment,
        card=card,
        representation=representation_of(card),
        attributes=experiments.attributes_of(experiment.model.conditioning, card, experiment.data.columns),
        method=experiments.method_of(experiment.model.diffusion),
        model=model.eval(),
    )
