"""What an assessment of privacy starts from: a split of people who were not trained on, and samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.montages import check_whole
from signal_diffusion.errors import UserError, listed
from signal_diffusion.experiment.changed_data import checked, different_files
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.processes import on_all_processes, processes_of
from signal_diffusion.sampling.request_options import RequestOptions, request_options
from signal_diffusion.sampling.requests import ELECTRODE, Request
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained

__all__ = ["OnProgress", "checked_split", "draw", "options_for", "other_advice"]

OnProgress = Callable[[str, int, int], None]
"""Called with what is done, and how much of how much."""


def options_for(experiment: schema.Experiment, card: DatasetCard, num: int, like: str | None) -> RequestOptions:
    """A request for `num` samples, of whole windows if the model can, with conditions of a split: `like` or train."""
    table = experiment.model.conditioning
    if like is None and table.type != "none":
        like = experiment.data.paths.train
    attributes = attributes_of(table, card, experiment.data.columns) if table.type == "attributes" else ()
    if card.representation["layout"] == ELECTRODE and any(each.name == ELECTRODE for each in attributes):
        return request_options(like=like, windows=num)
    return request_options(like=like, num=num)


def checked_split(dataset: Dataset, card: DatasetCard, split: str, *, may_have_more_electrodes: bool = False) -> str:
    """The card's name of the split of people who were not trained on.

    Parameters
    ----------
    card
        Card in the checkpoint: of the dataset that the model was trained on.
    may_have_more_electrodes
        Whether it may also be a dataset with further electrodes; the people of the split must be new all the same.

    Raises
    ------
    UserError
        If there is no such split, its people were trained on, or the training split is not that of the model.
    """
    check_whole(dataset.card, f"--real {dataset.root}")
    splits = dataset.card.splits
    name = {"val": "validation"}.get(split, split)
    if name not in splits:
        raise UserError(
            f"--real {dataset.root}: has no split {split}, only {', '.join(splits)}; name one whose people were not "
            f"trained on, such as --real {dataset.root}:validation"
        )
    train = dataset.split(dataset.data.paths.train)
    if may_have_more_electrodes and {*dataset.card.channels} > {*card.channels}:
        _check_comparable(dataset, card)
        _check_new_people(dataset, name, card.splits[train]["subjects"])
        return name
    with other_advice("restore the file, or make the dataset again"):
        now = checked(dataset, [train, name], card)
    changed = [each for each in different_files(card, now.card) if each.startswith(f"{train}/")] if card.files else []
    if changed:
        raise UserError(
            f"--real {dataset.root}: {listed(changed)} is not what the model was trained on (another SHA-256), so that "
            "nothing can be said about its training data; give the dataset of the run"
        )
    _check_new_people(dataset, name, splits[train]["subjects"])
    return name


def _check_new_people(dataset: Dataset, split: str, trained_on: Sequence[str]) -> None:
    if shared := {*trained_on} & {*dataset.card.splits[split]["subjects"]}:
        raise UserError(
            f"--real {dataset.root}:{split}: {listed(sorted(map(str, shared)))} are in the training split too; name a "
            "split of other people"
        )


def _check_comparable(dataset: Dataset, card: DatasetCard) -> None:
    """Raise a `UserError` if a dataset differs from that of a card in more than its electrodes."""
    now, then = (
        {"sampling rate": each.sampling_rate, "window": each.window}
        | {key: each.preprocessing.get(key) or None for key in ("reference", "band", "notch")}
        for each in (dataset.card, card)
    )
    if different := [f"{key} is {now[key]}, not {then[key]}" for key in then if now[key] != then[key]]:
        raise UserError(
            f"--real {dataset.root}: differs from the training data in more than electrodes ({listed(different)}); "
            "prepare it with the same options except --channels"
        )


def draw(trained: Trained, request: Request, on_progress: OnProgress = lambda what, done, total: None) -> Samples:
    """Generate samples in batches that fit into memory; all processes share the batches, and have all samples."""
    generator, total = trained.generator, len(request)
    batch = BatchSize(None, shape=generator.shape, device=generator.device, most=total)

    def generate(rows: slice) -> Samples:
        on_progress("sampling", rows.start, total)
        return batch.fit(partial(generate_samples, trained, request[rows]))

    parts = on_all_processes(batch.shared(total), generate, processes_of(trained.experiment.compute))
    on_progress("sampling", total, total)
    signals = [part.signals for part in parts if part.signals is not None]
    return dataclasses.replace(
        parts[0],
        tensors=torch.cat([part.tensors for part in parts]),
        latents=None,
        signals=torch.cat(signals) if signals else None,
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    ).as_windows(request.electrodes)


@contextmanager
def other_advice(advice: str) -> Iterator[None]:
    """Replace the advice in errors of data, which follows the first "; " and is about training."""
    try:
        yield
    except UserError as error:
        raise UserError(*(f"{line.partition('; ')[0]}; {advice}" for line in error.lines)) from None
