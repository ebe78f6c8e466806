"""Windows that a run or an exported model generates, to be judged."""

from __future__ import annotations

from pathlib import Path

from signal_diffusion.config.loading import CONFIG_NAME
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import split_name
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.evaluating import real_split
from signal_diffusion.evaluation.reading import MOST
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.experiment.dataset import dataset_of
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at
from signal_diffusion.sampling.requests import ELECTRODE

__all__ = ["dataset_of_model", "is_model", "windows_of_model"]


def is_model(path: Path) -> bool:
    """Whether a folder is a run, a checkpoint or an exported model."""
    return (path / CONFIG_NAME).is_file()


def dataset_of_model(path: Path) -> Path:
    """The dataset that a run was trained on; raises a `UserError` if it is not here."""
    return dataset_of(experiment_at(checkpoint_at(path), []).data).root


def windows_of_model(
    path: Path, real: str, *, num: int | None, seed: int, guidance_scale: float | None = None
) -> Windows:
    """Generate windows with the conditions of examples from the real split; as many as real ones are read.

    A model of single electrodes that is conditioned on the electrode generates whole windows. `guidance_scale` is by
    default that of the run.

    Raises
    ------
    UserError
        If the model has no signals, or does not know the conditions.
    """
    root, split = real_split(real)
    pipeline = SignalDiffusionPipeline.from_pretrained(
        path, overrides=["data.source=dataset", f"data.paths.root={root.resolve()}"]
    )
    trained = pipeline.trained
    if representation_of(trained.card).inverse == "none":
        raise UserError(f"{path}: its samples cannot be turned into microvolts, so they cannot be judged")
    names = {attribute.name for attribute in trained.attributes}
    like = split if names - {ELECTRODE} else None
    card = DatasetCard.load(root)
    count = num or min(MOST, card.splits[split_name(card, split, root)]["windows"])
    whole = ELECTRODE in names
    samples = pipeline(
        like=like,
        seed=seed,
        windows=count if whole else None,
        num=None if whole else count,
        guidance_scale=guidance_scale,
    )
    scale = "" if guidance_scale is None else f", guidance scale {guidance_scale:g}"
    return samples.to_windows(f"{path.resolve().name}{scale}")
