"""What a trained model gives away of the people it was trained on: copies, membership and re-identification."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from functools import partial

import numpy as np

from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.overview import read_columns
from signal_diffusion.evaluation.evaluating import compare
from signal_diffusion.evaluation.reading import read_dataset
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import SUBJECT
from signal_diffusion.experiment.conditions import distinct_captions
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.sampling.membership import Candidates, membership
from signal_diffusion.sampling.privacy_inputs import OnProgress
from signal_diffusion.sampling.privacy_report import METRICS, PrivacyReport
from signal_diffusion.sampling.processes import failing_together, processes_of
from signal_diffusion.sampling.provenance import weight_hashes
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained, with_captions

__all__ = ["assess_privacy"]

MOST_COMPARED = 4000
"""Largest number of windows of the training data that samples are compared with; limits memory."""


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
