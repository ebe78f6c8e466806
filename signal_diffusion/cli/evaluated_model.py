"""Windows that a run or an exported model generates, to be judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from signal_diffusion.cli.sample import sampling_overrides
from signal_diffusion.config.sources import CONFIG_NAME
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import split_name
from signal_diffusion.data.montages import absent_electrodes, examples_with, main_montage
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.harmonising import MOST_SINGLE
from signal_diffusion.evaluation.reading import MOST
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.experiment.dataset import dataset_of
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at
from signal_diffusion.sampling.options import named_in_errors
from signal_diffusion.sampling.requests import ELECTRODE
from signal_diffusion.sampling.trained import load_trained

__all__ = ["check_not_for_files", "is_model", "real_of", "windows_of_model"]


def is_model(path: Path) -> bool:
    """Whether a folder is a run, a checkpoint or an exported model."""
    return (path / CONFIG_NAME).is_file()


def real_of(path: Path, real: str | None) -> str:
    """The dataset to judge by; that of a run if none is named.

    Raises
    ------
    UserError
        If there is no run that it could be taken from, or its dataset is not here.
    """
    if real is not None:
        return real
    if not is_model(path):
        raise UserError("--real: missing; name the dataset to judge by: --real DATASET")
    return str(dataset_of(experiment_at(checkpoint_at(path), []).data, whole=True).root)


def check_not_for_files(path: Path, **options: object) -> None:
    """Raise a `UserError` for an option about generating, unless `path` is a model."""
    given = [name for name, value in options.items() if value]
    if given and not is_model(path):
        raise UserError(f"--{given[0]}: {path} is no run or exported model that generates windows; leave it out")


def windows_of_model(
    path: Path,
    root: Path,
    split: str,
    *,
    num: int | None = None,
    to_train: bool = False,
    seed: int,
    steps: int | None,
    sets: Sequence[str] | None,
    guidance_scale: float | None = None,
) -> Windows:
    """Generate windows with the conditions of examples from a split, as many as are read of it.

    A model of single electrodes that is conditioned on the electrode generates whole windows. `to_train` classifiers,
    there are twice as many, for T + 2·S, and a sample for each electrode if they are single ones.
    A model of recordings with different electrodes generates those of the windows that are read of the split.
    `guidance_scale` is by default that of the run.

    Raises
    ------
    UserError
        If the model has no signals, or does not know the conditions.
    """
    overrides = [
        *sampling_overrides(sets, steps),
        "data.source=dataset",
        f"data.paths.root={json.dumps(str(root.resolve()))}",
    ]
    with named_in_errors({} if steps is None else {"steps": "--steps"}):
        trained = load_trained(path, overrides)
    pipeline = SignalDiffusionPipeline(trained)
    if representation_of(trained.card).inverse == "none":
        raise UserError(f"{path}: its samples cannot be turned into microvolts, so they cannot be judged")
    names = {attribute.name for attribute in trained.attributes}
    like = split if names - {ELECTRODE} else None
    card = DatasetCard.load(root)
    name, whole = split_name(card, split, root), ELECTRODE in names
    montage, count, electrodes = main_montage(card, [name]), card.splits[name]["windows"], None
    if absent_electrodes(trained.card):
        electrodes = ",".join(each for each in montage if each in trained.card.channels) or None
        count = examples_with(card, montage, [name])
    count = min(MOST, count)
    if to_train:
        is_single = representation_of(trained.card).per_electrode and not whole
        count = 2 * (min(MOST_SINGLE, count * len(card.channels)) if is_single else count)
    count = num or count
    samples = pipeline(
        like=like,
        seed=seed,
        windows=count if whole else None,
        num=None if whole else count,
        electrodes=electrodes,
        guidance_scale=guidance_scale,
    )
    scale = "" if guidance_scale is None else f", guidance scale {guidance_scale:g}"
    return samples.to_windows(f"{path.resolve().name}{scale}")
