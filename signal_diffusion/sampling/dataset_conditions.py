"""Conditions sampled from a split of the dataset: whole rows, which keeps marginals and combinations of attributes."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.changed_data import checked, different_files
from signal_diffusion.experiment.dataset import Dataset, dataset_of
from signal_diffusion.randomness import Purpose, generator_for
from signal_diffusion.sampling.requests import Value

__all__ = ["values_like"]

logger = logging.getLogger(__name__)

DAMAGED = "restore the file, or make the dataset again"

MOVED = (
    "if you moved the dataset, set its folder with --set data.paths.root=DIR "
    '(in Python, from_pretrained(…, overrides=["data.paths.root=DIR"]))'
)


def values_like(
    experiment: schema.Experiment,
    names: Sequence[str],
    split: str,
    num: int,
    *,
    seed: int,
    before: DatasetCard | None = None,
) -> dict[str, list[Value]]:
    """The attributes of `num` random rows of a split of the run's dataset, with replacement.

    Row i depends only on (seed, i). `before` is the card in the checkpoint: the files that it describes are accepted,
    as are those of the dataset's own card.

    Raises
    ------
    UserError
        If the model is unconditional, the dataset is missing or has changed, or it has no such split or column.
    """
    if not names:
        raise UserError(f"--like {split}: the model is unconditional; leave --like out")
    data = experiment.data
    try:
        found = dataset_of(data, min_channels=before.min_channels if before else 1)
    except UserError as error:  # its advice after the first "; " is about training
        raise UserError(*(f"--like {split}: {line.partition('; ')[0]}; {MOVED}" for line in error.lines)) from None
    try:
        found.split(split)
    except UserError:
        available = ", ".join(found.card.splits)
        raise UserError(f"--like {split}: {found.root} has no such split; use one of {available}") from None
    try:
        opened = checked(found, [split], before).open(split).with_format(None)
    except UserError as error:  # a damaged file; its advice is about training
        raise UserError(*(f"--like {split}: {line.partition('; ')[0]}; {DAMAGED}" for line in error.lines)) from None
    _warn_if_made_again(split, found, before)
    generators = (generator_for(Purpose.CONDITION, seed, i) for i in range(num))
    rows = [int(torch.randint(len(opened), (), generator=generator)) for generator in generators]
    values = {}
    for name in names:
        column = getattr(data.columns, name, name)
        if column not in opened.column_names:
            raise UserError(
                f"--like {split}: {found.root} has no column {column!r}, only {', '.join(opened.column_names)}; {MOVED}"
            )
        values[name] = _column_values(opened[column], rows, found.card, column)
    if experiment.model.conditioning.type == "caption":  # stripped as in training
        return {
            name: [text.strip() if isinstance(text, str) else text for text in each] for name, each in values.items()
        }
    return values


def _warn_if_made_again(split: str, now: Dataset, before: DatasetCard | None) -> None:
    names = different_files(before, now.card) if before is not None and before.files else []
    if names := [name for name in names if name.startswith(f"{now.split(split)}/")]:
        logger.warning(
            "--like %s: %s was made again since the run was trained on it, or is another dataset (%s differs); its "
            "conditions may be those of other people", split, now.root, names[0],
        )  # fmt: skip


def _column_values(values: Iterable[Any], rows: Sequence[int], card: DatasetCard, column: str) -> list[Value]:
    """The values of some rows of a column: codes as category names, unknown values as None."""
    names = card.columns.get(column, {}).get("names", ())
    every = list(values)
    return [_value(every[row], names) for row in rows]


def _value(value: Any, names: Sequence[str]) -> Value:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, int) and names:
        return names[value] if value >= 0 else None
    return value if isinstance(value, str) else float(value)
