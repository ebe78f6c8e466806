"""What a trained model gives away of the people it was trained on: copies, membership and re-identification."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np
import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.overview import read_columns
from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.evaluating import compare
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import SUBJECT
from signal_diffusion.experiment.changed_data import checked, different_files
from signal_diffusion.experiment.conditions import attributes_of, distinct_captions
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.membership import Candidates, membership
from signal_diffusion.sampling.privacy_report import METRICS, PrivacyReport
from signal_diffusion.sampling.processes import failing_together, on_all_processes, processes_of
from signal_diffusion.sampling.provenance import weight_hashes
from signal_diffusion.sampling.request_options import RequestOptions, request_options
from signal_diffusion.sampling.requests import ELECTRODE, Request
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained, with_captions

__all__ = ["assess_privacy", "checked_split", "draw", "options_for"]

MOST_COMPARED = 4000
"""Largest number of windows of the training data that samples are compared with; limits memory."""
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


def checked_split(dataset: Dataset, card: DatasetCard, split: str) -> str:
    """The card's name of the split of people who were not trained on.

    Parameters
    ----------
    card
        Card in the checkpoint: of the dataset that the model was trained on.

    Raises
    ------
    UserError
        If there is no such split, its people were trained on, or the training split is not that of the model.
    """
    splits = dataset.card.splits
    name = {"val": "validation"}.get(split, split)
    if name not in splits:
        raise UserError(
            f"--real {dataset.root}: has no split {split}, only {', '.join(splits)}; name one whose people were not "
            f"trained on, such as --real {dataset.root}:validation"
        )
    train = dataset.split(dataset.data.paths.train)
    try:
        now = checked(dataset, [train, name], card)
    except UserError as error:  # its advice after the first "; " is about training
        lines = (line.partition("; ")[0] for line in error.lines)
        raise UserError(*(f"{line}; restore the file, or make the dataset again" for line in lines)) from None
    changed = [each for each in different_files(card, now.card) if each.startswith(f"{train}/")] if card.files else []
    if changed:
        raise UserError(
            f"--real {dataset.root}: {listed(changed)} is not what the model was trained on (another SHA-256), so that "
            "nothing can be said about its training data; give the dataset of the run"
        )
    if shared := {*splits[train]["subjects"]} & {*splits[name]["subjects"]}:
        raise UserError(
            f"--real {dataset.root}:{name}: {listed(sorted(map(str, shared)))} are in the training split too; name a "
            "split of other people"
        )
    return name


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


def assess_privacy(
    trained: Trained,
    dataset: Dataset,
    samples: Samples,
    *,
    split: str,
    like: str = "",
    on_progress: OnProgress = lambda what, done, total: None,
) -> PrivacyReport | None:
    """Look for training data in samples, and for membership in the model's loss.

    All processes share the computation of the loss; the first one compares the samples, and the others return None.

    Parameters
    ----------
    dataset, split
        What the model was trained on, and the split with people whom it was not trained on (see `checked_split`).
    like
        Split that the samples have their conditions from, for the report.
    """
    train, data = dataset.data.paths.train, dataset.data
    if trained.encoder is not None:
        opened = [dataset.open(name) for name in (train, split)]
        trained = with_captions(trained, distinct_captions(opened, dataset.card, data.columns.caption))
    found = membership(
        trained,
        _candidates(trained, dataset, train, data.loading.max_train_examples),
        _candidates(trained, dataset, split, None),
        seed=trained.sampling.seed,
        on_example=partial(on_progress, "membership"),
    )
    state = processes_of(trained.experiment.compute)
    report, missing = None, ""
    with failing_together(state):
        if not state.is_main_process:
            return None
        on_progress("comparing", 0, 1)
        if samples.signals is None:
            missing = "samples cannot be turned into microvolts"
        else:
            report = _compared(dataset, samples, split)
        on_progress("comparing", 1, 1)
    about = {
        "checkpoint": trained.checkpoint.name,
        "weights_sha256": weight_hashes(trained.checkpoint),
        "samples": len(samples),
        "like": like,
        "real": f"{dataset.root.name}:{split}",
        "sampling": asdict(trained.sampling),
    }
    return PrivacyReport(about=about, membership=found, report=report, missing=missing)


def _compared(dataset: Dataset, samples: Samples, split: str) -> Report:
    assert samples.signals is not None
    judged = samples.to_windows()
    most = MOST_COMPARED // (len(samples.card.channels) if samples.signals.ndim == 2 else 1)
    real, train = (
        dataclasses.replace(
            read_dataset(dataset.root, dataset.split(name), most=most), name=f"{dataset.root.name}:{name}"
        )
        for name in (split, dataset.data.paths.train)
    )
    return compare(real, judged, train=train, metrics=METRICS)


def _candidates(trained: Trained, dataset: Dataset, split: str, limit: int | None) -> Candidates:
    label, card = dataset.data.columns.label, dataset.card
    frame = read_columns(
        dataset.root, dataset.split(split), [name for name in (label, SUBJECT) if name in card.columns]
    )
    frame = frame.iloc[evenly_spaced(len(frame), limit)]
    numbers = [f"example {number}" for number in range(len(frame))]
    return Candidates(
        examples=dataset.examples(split, trained.attributes, limit),
        labels=frame[label].fillna("").astype(str).to_numpy() if label in frame else np.full(len(frame), ""),
        people=frame[SUBJECT].fillna("").astype(str).to_numpy() if SUBJECT in frame else np.array(numbers),
    )
