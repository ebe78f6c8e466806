"""The option --real of commands that judge a model by the dataset that it was trained on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from signal_diffusion.config.schema import Experiment
    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.experiment.dataset import Dataset

__all__ = ["Real", "judged_dataset", "overrides_of"]

Real = Annotated[
    str | None,
    typer.Option(
        metavar="DATASET[:SPLIT]",
        help="Dataset that the model was trained on, and a split of people whom it was not trained on.",
        show_default="the run's dataset, test",
    ),
]


def overrides_of(real: str | None) -> tuple[list[str], str]:
    """Overrides of the experiment by --real, and the split."""
    from signal_diffusion.evaluation.reading import split_of

    if real is None:
        return [], "test"
    root, split = split_of(real, "test")
    return [f"data.paths.root={json.dumps(str(root))}", "data.source=dataset"], split


def judged_dataset(
    experiment: Experiment, card: DatasetCard, split: str, *, may_have_more_electrodes: bool = False
) -> tuple[Dataset, str]:
    """The dataset of a model's experiment and card, and the checked name of its split (see `checked_split`)."""
    from signal_diffusion.experiment.dataset import dataset_of
    from signal_diffusion.sampling.privacy_inputs import checked_split, other_advice

    with other_advice("give the folder of the run's dataset with --real"):
        dataset = dataset_of(experiment.data, min_channels=card.min_channels, whole=True)
    return dataset, checked_split(dataset, card, split, may_have_more_electrodes=may_have_more_electrodes)
