"""What an assessment of restoration starts from: windows of a split, and windows to fit regressions to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from signal_diffusion.data.overview import read_columns
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.people import SUBJECT, spread_over_people
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.sampling.trained import Trained

__all__ = ["Judged", "windows_to_restore"]

MOST_FITTED = 400
"""Windows of training people, and of validation people, that a regression is fitted to and chosen by."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Windows to restore, in µV, with what the baselines need."""

    dataset: Dataset
    signals: np.ndarray
    """(N, electrodes, samples)."""
    people: np.ndarray
    """Person of each, (N,)."""
    attributes: Mapping[str, Tensor]
    """Conditions of each."""
    fitted: tuple[np.ndarray, np.ndarray]
    """Windows of training people and of validation people."""

    @property
    def is_average(self) -> bool:
        """Whether the signals are referenced to the average of all electrodes."""
        return self.dataset.card.preprocessing.get("reference") == "average"

    @property
    def sfreq(self) -> float:
        """Sampling rate, Hz."""
        return float(self.dataset.card.sampling_rate or 0)


def windows_to_restore(
    trained: Trained, dataset: Dataset, split: str, windows: int, seed: int
) -> tuple[Judged, list[str]]:
    """Up to so many windows of a split, spread over its people, and notes on what the split lacks."""
    card, notes = dataset.card, []
    examples = dataset.examples(split, trained.attributes)
    frame = read_columns(dataset.root, split, [SUBJECT] if SUBJECT in card.columns else [])
    people = frame[SUBJECT].fillna("").astype(str).to_numpy() if SUBJECT in frame else None
    rows = spread_over_people(people, np.random.default_rng(seed), count=len(examples))[:windows]
    if len(rows) < windows:
        notes.append(f"{split} has {len(rows)} windows, less than the {windows} asked for")
    if people is None:
        notes.append("no column subject: each window counts as a person")
        people = np.arange(len(examples)).astype(str)
    train, validation = dataset.split(dataset.data.paths.train), _validation(dataset, split)
    if validation == train:
        notes.append("no other validation people: the ridge regression's penalty is the best for training people")
    fitted, chosen = (read_dataset(dataset.root, name, most=MOST_FITTED).signals for name in (train, validation))
    x, attributes = examples[rows.tolist()]
    judged = Judged(
        dataset=dataset,
        signals=dataset.representation.to_signal(x).numpy(),
        people=people[rows],
        attributes=attributes,
        fitted=(fitted, chosen),
    )
    return judged, notes


def _validation(dataset: Dataset, split: str) -> str:
    """The split that the penalty of a regression is chosen by: not the one that is judged."""
    paths = dataset.data.paths
    try:
        found = dataset.split(paths.val)
    except UserError:
        found = split
    return dataset.split(paths.train) if found == split else found
