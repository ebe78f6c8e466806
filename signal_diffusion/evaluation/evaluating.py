"""Judge synthetic EEG: arrays and epochs of any generator, or files, by real EEG."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.comparison import OnMetric, compare_windows
from signal_diffusion.evaluation.harmonising import harmonised
from signal_diffusion.evaluation.reading import read_dataset, read_windows, split_of
from signal_diffusion.evaluation.report import Report
from signal_diffusion.evaluation.windows import SUBJECT, Windows

if TYPE_CHECKING:
    import mne

__all__ = ["compare", "evaluate", "real_split"]


def compare(
    real: np.ndarray | mne.BaseEpochs | Windows,
    synthetic: np.ndarray | mne.BaseEpochs | Windows,
    *,
    train: np.ndarray | mne.BaseEpochs | Windows | None = None,
    sfreq: float | None = None,
    ch_names: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    train_subjects: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
    metrics: Sequence[str] | None = None,
    quick: bool = False,
    seed: int = 0,
) -> Report:
    """Judge windows of any generator by real windows of people whom it was not trained on.

    Parameters
    ----------
    real, synthetic, train
        Arrays (N, electrodes, samples) in µV, epochs of MNE (their EEG channels), or `Windows`. `train` is what the
        generator was trained on, for the floor's other people and for copies.
    sfreq, ch_names
        Sampling rate in Hz and electrodes, of arrays.
    subjects, train_subjects
        Person of each real and of each training window, for floors and intervals; epochs may have them in a column
        `subject` of their metadata.
    labels
        Class of each window: {"real": …, "synthetic": …, "train": …}, each optional.
    metrics, quick, seed
        As in `compare_windows`.

    Examples
    --------
    >>> report = compare(real, fake, sfreq=128, ch_names=["C3", "Cz", "C4"], subjects=who)  # doctest: +SKIP
    >>> print(report.to_text())  # doctest: +SKIP
    >>> report.save(Path("report"))  # doctest: +SKIP

    Raises
    ------
    UserError
        If windows are not finite, or the sets cannot be compared.
    """
    if unknown := (labels or {}).keys() - {"real", "synthetic", "train"}:
        raise UserError(f"labels: unknown {listed(sorted(unknown))}; expected some of real, synthetic, train")
    people = {"real": subjects, "train": train_subjects}
    sets = {
        name: _as_windows(source, name, sfreq, ch_names, people.get(name), (labels or {}).get(name))
        for name, source in {"real": real, "synthetic": synthetic, "train": train}.items()
        if source is not None
    }
    return _harmonised_report(
        sets["real"], sets["synthetic"], sets.get("train"), metrics=metrics, quick=quick, seed=seed
    )


def evaluate(
    synthetic: Path | Windows,
    real: str,
    *,
    train: str | None = None,
    metrics: Sequence[str] | None = None,
    quick: bool = False,
    controls: bool = False,
    guidance: Mapping[float, Windows] | None = None,
    seed: int = 0,
    on_metric: OnMetric | None = None,
) -> Report:
    """Judge what a folder contains (see `read_windows`) by a dataset.

    Parameters
    ----------
    real
        "DATASET" or "DATASET:SPLIT", by default its test split, or its validation split if it has no test.
    train
        The same for the training windows; None = the train split of `real`, "" = none.
    controls
        Whether to judge the `controls.CONTROLS` too.
    guidance
        Guidance scale → windows of the same model, for a table of adherence and fidelity by scale.
    """
    root, used = real_split(real)
    truth = read_dataset(root, used, seed=seed)
    if train is None and used != "train" and "train" in DatasetCard.load(root).splits:
        train = f"{root}:train"
    known = read_dataset(*split_of(train, "train"), seed=seed, electrodes=truth.ch_names) if train else None
    judged = synthetic if isinstance(synthetic, Windows) else read_windows(synthetic, seconds=truth.seconds)
    return _harmonised_report(
        truth,
        judged,
        known,
        guidance,
        metrics=metrics,
        quick=quick,
        controls=controls,
        seed=seed,
        on_metric=on_metric,
    )


def real_split(text: str) -> tuple[Path, str]:
    """The folder and the split of "DATASET:SPLIT"; without a split, test or, if there is none, validation."""
    root, split = split_of(text, "")
    card = DatasetCard.load(root)
    if not split:
        splits = card.splits
        split = next((name for name in ("test", "validation") if name in splits), "")
        if not split:
            raise UserError(f"{root}: has only the split {', '.join(splits)}; name it: --real {root}:train")
    return root, split


def _harmonised_report(
    real: Windows,
    synthetic: Windows,
    train: Windows | None,
    guidance: Mapping[float, Windows] | None = None,
    **options: Any,
) -> Report:
    real, synthetic, notes = harmonised(real, synthetic)
    if train is not None:
        if real.spectrograms is None:  # nothing to compare those of the training windows with
            train = dataclasses.replace(train, spectrograms=None)
        real, train, more = harmonised(real, train)
        if real.spectrograms is None:
            synthetic = dataclasses.replace(synthetic, spectrograms=None)
        real, synthetic, again = harmonised(real, synthetic)  # real windows may have become like the training windows
        notes = list(dict.fromkeys([*notes, *more, *again]))
    by_scale = {scale: harmonised(real, each)[1] for scale, each in (guidance or {}).items()}
    return compare_windows(real, synthetic, train=train, guidance=by_scale, notes=notes, **options)


def _as_windows(
    source: np.ndarray | mne.BaseEpochs | Windows,
    name: str,
    sfreq: float | None,
    ch_names: Sequence[str] | None,
    subjects: Sequence[str] | None,
    labels: Sequence[str] | None,
) -> Windows:
    if isinstance(source, Windows):
        return source
    columns = {key: np.asarray(each) for key, each in ((SUBJECT, subjects), ("label", labels)) if each is not None}
    if isinstance(source, list | tuple):
        source = np.asarray(source)
    if not isinstance(source, np.ndarray):
        if not hasattr(source, "event_id"):
            raise UserError(f"{name}: is {type(source).__name__}; expected an array, epochs of MNE, or Windows")
        return Windows.from_epochs(source, name=name, **columns)
    if sfreq is None:
        raise UserError(f"{name}: is an array; give its sampling rate, sfreq=…")
    names = tuple(ch_names) if ch_names is not None else tuple(f"EEG{i + 1}" for i in range(source.shape[1]))
    return Windows(signals=source, sfreq=sfreq, ch_names=names, columns=columns, name=name)
