"""One way from a source of signals to a dataset on disk, whatever the source.

Three passes, none of which holds more than one recording: read each into a staging file and choose its
windows; deal the subjects to splits and fit the representation to the training one; write. Splitting comes
after reading, so that a subject whose recordings are all bad takes no place in a split.

Everything is written to a hidden folder beside the output, flushed, and renamed into place: a run that was
killed leaves no dataset, and the next one starts over. An output that holds a dataset made by the same
arguments is made again (the recordings may have changed); anything else that is in the way is refused.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import filelock
import numpy as np
import torch

from signal_diffusion.data.balancing import DEFAULT_MAX_WEIGHT, balanced_weights, marginals
from signal_diffusion.data.card import CARD_NAME, SPLITS, DatasetCard, write_readme
from signal_diffusion.data.dataset import write_split
from signal_diffusion.data.recordings import Recording
from signal_diffusion.data.representation import Representation
from signal_diffusion.data.windows import cut, kept_windows, window_starts
from signal_diffusion.errors import UserError

__all__ = ["Progress", "Source", "WindowOptions", "build", "silent", "split_subjects"]

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and of how much."""

T = TypeVar("T")

_WINDOWS_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """What every source is asked for."""

    rate: float = 125.0
    """Sampling rate, Hz."""
    window: int = 2048
    """Samples of a window."""
    overlap: float = 0.5
    """Share of a window that the next one repeats, [0, 1)."""
    splits: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of the subjects in train, validation and test."""
    seed: int = 0
    """Of the splits, and of all that is synthetic."""

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap: {self.overlap:g} is not in [0, 1)")
        if not 1 <= self.rate < float("inf"):
            raise UserError(f"rate: {self.rate:g} Hz; expected at least 1 Hz")
        if self.window < 1:
            raise UserError(f"window: {self.window} samples; expected at least 1")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed}; expected 0 or more")
        if not (min(self.splits) >= 0 and self.splits[0] > 0 and abs(sum(self.splits) - 1) <= 1e-6):
            raise UserError(f"splits: {self.splits} are not three shares that sum to 1, the first above 0")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where signals come from; the rest of this file does not care which it is."""

    recordings: list[Recording]
    labels: list[str | None]
    read: Callable[[Recording], tuple[np.ndarray, np.ndarray]]
    """Gives µV (channels, samples) and the flat seconds (seconds,)."""
    channels: tuple[str, ...]
    sources: list[dict[str, Any]]
    preprocessing: dict[str, Any]
    command: str
    reject_above: float
    skip_bad: bool


@dataclass(frozen=True, kw_only=True)
class _Staged:
    """A recording that was read: its signal is on disk, and the windows to keep are chosen."""

    recording: Recording
    label: str | None
    path: Path
    starts: np.ndarray
    kept: np.ndarray
    """Indices into `starts`."""


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


def build(
    source: Source, output: Path, kind: type[Representation], options: WindowOptions, progress: Progress
) -> DatasetCard:
    """Read, split, fit and write; returns the card of the dataset that then lies at `output`."""
    with _written_beside(output, source.command) as root:
        staging = root / "staging"
        staging.mkdir()
        staged, rejected, skipped = _stage(source, staging, options, progress)
        splits = _splits(staged, options)
        representation = kind.fit(
            (
                signals
                for each in _reported(splits["train"], "measuring", progress)
                for _, signals in _signals(each, options.window)
            ),
            sampling_rate=options.rate,
            window=options.window,
        )
        card = replace(_card(source, representation, options, splits), rejected=rejected, skipped=skipped)
        files: dict[str, str] = {}
        for split, members in splits.items():
            tracked = _reported(members, f"writing {split}", progress)
            files |= write_split(
                root, split, card, (rows for each in tracked for rows in _rows(each, representation, card))
            )
        shutil.rmtree(staging)
        card = replace(card, files=files)
        write_readme(root, card)
        card.save(root)
    return card


def split_subjects(strata: dict[str, str], shares: Sequence[float], seed: int) -> dict[str, str]:
    """Deal subjects, subject → stratum, into train, validation and test; returns subject → split.

    Each split has every stratum in proportion, as far as whole people go, and nobody is in two. With three
    people or more no split with a share above 0 is empty; training comes first, then validation.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(strata)]))
    order = {}
    for stratum in sorted(set(strata.values())):
        members = sorted(subject for subject in strata if strata[subject] == stratum)
        # A systematic sample: members of each stratum evenly spaced from a random start, all strata
        # interleaved.
        places = (np.arange(len(members)) + rng.random()) / len(members)
        order.update(
            {members[member]: place for member, place in zip(rng.permutation(len(members)), places, strict=True)}
        )
    subjects = sorted(strata, key=lambda subject: (order[subject], subject))
    counts = [max(round(share * len(subjects)), share > 0) for share in shares[1:]]
    validation = min(counts[0], len(subjects) - 1)
    test = min(counts[1], len(subjects) - 1 - validation)
    splits = ["validation"] * validation + ["test"] * test + ["train"] * (len(subjects) - validation - test)
    return dict(zip(subjects, splits, strict=True))


def _stage(
    source: Source, staging: Path, options: WindowOptions, progress: Progress
) -> tuple[list[_Staged], dict[str, int], list[str]]:
    staged, rejected, skipped = [], Counter({"flat": 0, "amplitude": 0}), []
    jobs = list(zip(source.recordings, source.labels, strict=True))
    for number, (recording, label) in enumerate(_reported(jobs, "reading", progress)):
        try:
            signal, flat = source.read(recording)
        except UserError as error:
            if not source.skip_bad:
                raise UserError(*error.lines, "nothing was written; --skip-bad goes on without such files") from error
            logger.warning("skipped %s", error)
            skipped.append(recording.recording)
            continue
        starts = window_starts(signal.shape[1], options.window, options.overlap)
        kept, reasons = kept_windows(
            signal, starts, options.window, sfreq=options.rate, peak_to_peak=source.reject_above, flat=flat
        )
        rejected.update(reasons)
        if len(kept):
            path = staging / f"{number:06d}.npy"
            np.save(path, signal)
            staged.append(_Staged(recording=recording, label=label, path=path, starts=starts, kept=kept))
    if not staged:
        reasons_text = ", ".join(f"{count} {reason}" for reason, count in rejected.items())
        raise UserError(
            f"no window is left: {len(skipped)} recordings skipped, windows rejected: {reasons_text}; "
            "see --reject-above and --reject-flat"
        )
    return staged, dict(rejected), skipped


def _splits(staged: Sequence[_Staged], options: WindowOptions) -> dict[str, list[_Staged]]:
    """Deal recordings by subject, stratified by the first attribute that everyone has just one value of."""
    traits = [
        [each.label for each in staged],
        [each.recording.health for each in staged],
        [each.recording.gender for each in staged],
    ]
    strata = {each.recording.subject: "" for each in staged}
    for values in traits:
        pairs = {(each.recording.subject, value) for each, value in zip(staged, values, strict=True)}
        if len(pairs) == len(strata) and len(set(values)) > 1:
            strata = {subject: str(value) for subject, value in pairs}
            break
    split_of = split_subjects(strata, options.splits, options.seed)
    splits = {split: [each for each in staged if split_of[each.recording.subject] == split] for split in SPLITS}
    return {split: members for split, members in splits.items() if members}


def _reported(items: Sequence[T], what: str, progress: Progress) -> Iterator[T]:
    for number, item in enumerate(items):
        progress(what, number, len(items))
        yield item
    progress(what, len(items), len(items))


def _signals(staged: _Staged, window: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Give the numbers of some windows (n,) and their µV (n, channels, window), a few at a time."""
    signal = np.load(staged.path, mmap_mode="r")
    for start in range(0, len(staged.kept), _WINDOWS_AT_ONCE):
        numbers = staged.kept[start : start + _WINDOWS_AT_ONCE]
        yield numbers, torch.from_numpy(cut(signal, staged.starts[numbers], window))


def _rows(staged: _Staged, representation: Representation, card: DatasetCard) -> Iterator[dict[str, Any]]:
    each = staged.recording
    constant = {
        "label": staged.label,
        "gender": each.gender,
        "health": each.health,
        "age": each.age,
        "caption": each.caption,
        "subject": each.subject,
        "recording": each.recording,
        "dataset": each.dataset,
    }
    assert card.window is not None
    for numbers, signals in _signals(staged, card.window):
        tensors = representation.to_tensor(signals).numpy().astype(np.float16)
        electrodes = len(card.channels) if representation.per_electrode else 1
        count = len(numbers) * electrodes
        row: dict[str, Any] = {name: [value] * count for name, value in constant.items() if name in card.columns}
        row["window"] = np.repeat(numbers, electrodes)
        if representation.per_electrode:
            row["electrode"] = list(card.channels) * len(numbers)
        yield {representation.column: tensors.reshape(-1, *card.shape), **row}


def _card(
    source: Source, representation: Representation, options: WindowOptions, splits: dict[str, list[_Staged]]
) -> DatasetCard:
    everyone = [each for members in splits.values() for each in members]
    examples = len(source.channels) if representation.per_electrode else 1
    labels = sorted({each.label for each in everyone if each.label is not None})
    counts = {}
    for split, members in splits.items():
        windows = sum(len(each.kept) for each in members)
        counts[split] = {
            "examples": windows * examples,
            "windows": windows,
            "subjects": sorted({each.recording.subject for each in members}),
            "marginals": _marginals(split, members, examples),
        }
    return DatasetCard(
        representation={
            "name": representation.name,
            "layout": representation.layout,
            "inverse": representation.inverse,
            "column": representation.column,
            "parameters": representation.parameters(),
        },
        shape=representation.shape,
        sampling_rate=options.rate,
        window=options.window,
        channels=source.channels,
        columns=_columns(everyone, splits["train"], labels, source.channels if representation.per_electrode else ()),
        splits=counts,
        preprocessing=source.preprocessing,
        sources=source.sources,
        command=source.command,
    )


def _marginals(split: str, members: Sequence[_Staged], examples: int) -> dict[str, Any]:
    columns: dict[str, list[str | None]] = {
        name: [
            getattr(owner, name)
            for each in members
            for owner in [each if name == "label" else each.recording] * (examples * len(each.kept))
        ]
        for name in ("label", "gender", "health", "dataset")
    }
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    if split != "train":
        return marginals(columns)
    return marginals(
        columns, {name: balanced_weights([values], DEFAULT_MAX_WEIGHT) for name, values in columns.items()}
    )


def _columns(
    everyone: Sequence[_Staged], training: Sequence[_Staged], labels: list[str], electrodes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    def names(attribute: str) -> list[str]:
        values = {getattr(each.recording, attribute) for each in everyone}
        return sorted(value for value in values if value is not None)

    columns = {
        "label": labels,
        "gender": names("gender"),
        "health": names("health"),
        "electrode": list(electrodes),
    }
    described: dict[str, dict[str, Any]] = {
        name: {"kind": "categorical", "names": values} for name, values in columns.items() if values
    }
    ages = [each.recording.age for each in training for _ in each.kept if each.recording.age is not None]
    if ages:
        # A spread of 0 cannot be divided by; with one age, any unit will do.
        described["age"] = {
            "kind": "numeric",
            "mean": float(np.mean(ages)),
            "std": float(np.std(ages)) or 1.0,
        }
    if any(each.recording.caption for each in everyone):
        described["caption"] = {"kind": "text"}
    described |= {"subject": {"kind": "text"}, "recording": {"kind": "text"}, "window": {"kind": "index"}}
    return described | {"dataset": {"kind": "categorical", "names": names("dataset")}}


@contextmanager
def _written_beside(output: Path, command: str) -> Iterator[Path]:
    """Give a folder to write to, and put it in the output's place when all went well."""
    output = output.resolve()
    _check_replaceable(output, command)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (output.with_name(f".{output.name}.{what}") for what in ("partial", "old"))
    lock = filelock.FileLock(output.with_name(f".{output.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UserError(f"{output}: another `prepare` is writing it; wait for it or choose another --output") from None
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _flush(partial)
        shutil.rmtree(old, ignore_errors=True)
        if output.exists():
            output.rename(old)
        partial.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _check_replaceable(output: Path, command: str) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / CARD_NAME).exists():
        raise UserError(f"{output}: exists and is not a dataset; choose another --output or remove it")
    if DatasetCard.load(output).command != command:
        raise UserError(f"{output}: holds a dataset made by other arguments; choose another --output or remove it")


def _flush(root: Path) -> None:
    """Bring files to the disk before the rename that says they are there."""
    for path in [*root.rglob("*"), root]:
        if path.is_file() or os.name == "posix":  # Windows opens no folders
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
