"""Build a dataset on disk from a source of signals: real recordings or synthetic ones.

Three passes, each with only a part of one recording in memory: read recordings into staging files and choose their
windows; assign subjects to splits and fit the representation to the training split; write. Splitting comes after
reading, so that a subject without usable recordings takes no place in a split.

Everything is written to a hidden folder next to the output, flushed, and renamed into place: a killed command leaves
no dataset, and the next one starts over. An output that contains a dataset made by the same arguments is made again
(the recordings may have changed); anything else at the output is an error.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from signal_diffusion.data.amplitudes import Amplitudes
from signal_diffusion.data.card import CARD_NAME, SPLITS, DatasetCard, write_readme
from signal_diffusion.data.montages import ENTRY
from signal_diffusion.data.preparing.captions import check_template, default_template
from signal_diffusion.data.preparing.describing import (
    describe_columns,
    describe_montages,
    describe_splits,
    window_attributes,
)
from signal_diffusion.data.preparing.splitting import read_splits, split_groups, write_splits
from signal_diffusion.data.preparing.staged import Progress, Staged, Staging, with_progress
from signal_diffusion.data.preparing.staging import stage
from signal_diffusion.data.preparing.tensors import rows_of, training_signals
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.representations.representation import DEFAULT_PICTURES, PictureOptions, Representation
from signal_diffusion.data.writing_splits import write_split
from signal_diffusion.errors import UserError, listed
from signal_diffusion.executing.engine import engine_of

__all__ = ["Source", "WindowOptions", "build", "check_replaceable", "no_progress"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """Options of every source."""

    rate: float = 125.0
    """Sampling rate, Hz."""
    window: int = 2048
    """Length of a window, samples."""
    overlap: float = 0.5
    """Fraction of a window shared with the next one, [0, 1)."""
    splits: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Fractions of subjects in train, validation and test."""
    splits_from: Path | None = None
    """Dataset, or its splits.json, to take the split of each subject from."""
    seed: int = 0
    """Random seed of the splits, and of synthetic EEG."""
    captions: str | None = None
    """Template of `captions.caption_of`; None = the default template, "" = no captions."""
    pictures: PictureOptions = DEFAULT_PICTURES

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap: expected a fraction in [0, 1), found {self.overlap:g}")
        if not 1 <= self.rate < float("inf"):
            raise UserError(f"rate: {self.rate:g} Hz; expected at least 1 Hz")
        if self.window < 1:
            raise UserError(f"window: {self.window} samples; expected at least 1")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed}; expected 0 or more")
        if not (min(self.splits) >= 0 and self.splits[0] > 0 and abs(sum(self.splits) - 1) <= 1e-6):
            raise UserError(f"splits: expected three fractions that sum to 1, the first above 0; found {self.splits}")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of signals, real or synthetic."""

    recordings: list[Recording]
    staging: Staging
    channels: tuple[str, ...]
    positions: dict[str, list[float]]
    """Electrode → x, y, z on the unit sphere."""
    sources: list[dict[str, Any]]
    """The inputs, as described in the card."""
    preprocessing: dict[str, Any]
    command: str
    made_from: str
    """Hash that identifies the dataset: of its inputs and options."""
    extras: dict[str, str] = field(default_factory=dict)
    """Columns copied from the subject table: name in the dataset → name in the table."""
    split_by: str = "subject"
    """`subject`, or a column of the subject table; subjects with the same value get the same split."""
    workers: int = 1
    cluster: str | None = None
    """What runs the units of work; see `executing.engine_of`."""
    skip_bad: bool = False
    left_out: list[str] = field(default_factory=list)
    """"name: why" of files in the inputs that are not read."""


def no_progress(what: str, done: int, total: int) -> None:
    """Do not report progress."""


def build(
    source: Source,
    output: Path,
    kind: type[Representation],
    options: WindowOptions,
    progress: Progress,
    units: Sequence[Path] | None = None,
) -> DatasetCard:
    """Read, split, fit and write; returns the card of the dataset at `output`.

    `units` are those of the recordings that are read already (`shards`); None = read them now.
    """
    captions = default_template(kind.column) if options.captions is None else options.captions
    check_template(captions, window_attributes(source.recordings[0], None, source.extras))
    fixed = read_splits(options.splits_from) if options.splits_from else None
    # Fail now instead of after hours of reading.
    kind.check(options.pictures, sampling_rate=options.rate, window=options.window, electrodes=len(source.channels))
    workers = min(source.workers, len(source.recordings))
    with atomic_folder(output, "the dataset") as root, engine_of(workers, source.cluster) as engine:
        check_replaceable(output, source.made_from)
        # A unique name: a worker that outlives its parent must not write into the next command's folder.
        folder = Path(tempfile.mkdtemp(prefix="staging-", dir=root))
        paths = units or [folder / f"{number:06d}.npy" for number in range(len(source.recordings))]
        found = stage(
            source.recordings,
            paths,
            source.staging,
            engine=engine,
            skip_bad=source.skip_bad,
            progress=progress,
        )
        splits = _splits(found.recordings, source, options, fixed)
        montages = describe_montages(splits)
        training = (
            signals
            for each in with_progress(splits["train"], "measuring", progress)
            for signals in training_signals(each, options.window)
        )
        amplitudes = Amplitudes()
        representation = kind.fit(
            amplitudes.counted(training),
            sampling_rate=options.rate,
            window=options.window,
            pictures=options.pictures,
        )
        card = _card(source, representation, options, splits, captions)
        done: dict[str, Any] = {"reject_above": found.reject_above} if source.staging.reject_above is None else {}
        done |= {"labels": found.notes} if found.notes else {}
        done |= {ENTRY: montages} if montages else {}
        card = replace(
            card,
            preprocessing=card.preprocessing | done,
            rejected=found.rejected,
            skipped=sorted([*found.skipped, *source.left_out]),
            amplitudes=amplitudes.quantiles(),
        )
        files: dict[str, str] = {}
        for split, members in splits.items():
            tracked = with_progress(members, f"writing {split}", progress)
            files |= write_split(root, split, card, rows_of(tracked, representation, card, source.extras, engine))
        shutil.rmtree(folder)
        card = replace(card, files=files)
        write_readme(root, card)
        write_splits(root, {split: entry["subjects"] for split, entry in card.splits.items()})
        card.save(root)
    return card


def _splits(
    staged: Sequence[Staged], source: Source, options: WindowOptions, fixed: Mapping[str, str] | None
) -> dict[str, list[Staged]]:
    """Split recordings by subject; empty splits are left out."""
    split_of = fixed if fixed is not None else _assign_splits(staged, source.split_by, options)
    unknown = sorted({each.recording.subject for each in staged} - split_of.keys())
    if unknown:
        raise UserError(
            f"--splits-from {options.splits_from}: has no split for {listed(unknown)}; "
            "remove their recordings, or omit the option to make new splits"
        )
    splits = {split: [each for each in staged if split_of[each.recording.subject] == split] for split in SPLITS}
    if not splits["train"]:
        raise UserError(
            f"--splits-from {options.splits_from}: none of these subjects is in its training split; choose other splits"
        )
    if fixed is None:
        _warn_about_empty(splits, source.split_by, options.splits)
    return {split: members for split, members in splits.items() if members}


def _warn_about_empty(splits: Mapping[str, Sequence[Staged]], split_by: str, shares: Sequence[float]) -> None:
    wanted = [split for split, share in zip(SPLITS, shares, strict=True) if share > 0]
    empty = [split for split in wanted if not splits[split]]
    filled = len(wanted) - len(empty)  # each of them has one subject or group
    if empty:
        logger.warning(
            "%s: no examples, because %d %s with usable windows cannot be divided into %d splits; add recordings of "
            "other people, or leave out empty splits: --splits %s", " and ".join(empty), filled,
            ("subject" if split_by == "subject" else f"group of {split_by}") + ("s" if filled > 1 else ""), len(wanted),
            "1 0 0" if filled == 1 else "0.5 0.5 0",
        )  # fmt: skip


def _assign_splits(staged: Sequence[Staged], split_by: str, options: WindowOptions) -> dict[str, str]:
    """Assign subjects to splits, stratified by the first attribute with exactly one value per subject."""
    candidates = [
        [next(iter(set(each.labels))) if len(set(each.labels)) == 1 else None for each in staged],
        [each.recording.health for each in staged],
        [each.recording.gender for each in staged],
    ]
    strata = {each.recording.subject: "" for each in staged}
    for values in candidates:
        pairs = {(each.recording.subject, value) for each, value in zip(staged, values, strict=True)}
        if len(pairs) == len(strata) and len(set(values)) > 1:
            strata = {subject: str(value) for subject, value in pairs}
            break
    groups: dict[str, str | None] = {}
    if split_by != "subject":
        groups = {each.recording.subject: each.recording.participant.get(split_by) for each in staged}
    return split_groups(strata, groups, options.splits, options.seed)


def _card(
    source: Source,
    representation: Representation,
    options: WindowOptions,
    splits: dict[str, list[Staged]],
    captions: str,
) -> DatasetCard:
    electrodes = source.channels if representation.per_electrode else ()
    columns = describe_columns(splits, source.extras, electrodes)
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
        tmin=events.first / options.rate if (events := source.staging.events) is not None else None,
        channels=source.channels,
        positions=source.positions,
        columns=columns | ({"caption": {"kind": "text"}} if captions else {}),
        splits=describe_splits(splits, columns, source.extras, len(electrodes) or 1),
        captions=captions,
        preprocessing=_preprocessing(source, [each for members in splits.values() for each in members]),
        sources=source.sources,
        command=source.command,
        made_from=source.made_from,
    )


def _preprocessing(source: Source, staged: Sequence[Staged]) -> dict[str, Any]:
    """Describe what was done to the recordings; epochs were not filtered."""
    epochs = sum(each.epochs for each in staged)
    filters = ("band", "notch") if epochs == len(staged) else ()
    done = {name: value for name, value in source.preprocessing.items() if name not in filters}
    return done | ({"unfiltered_recordings": epochs} if epochs else {})


def check_replaceable(output: Path, made_from: str) -> None:
    """Raise a `UserError` if `output` is anything but a dataset that the same arguments made."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / CARD_NAME).exists():
        raise UserError(f"{output}: exists, but is not a dataset; choose another --output or remove it")
    if DatasetCard.load(output).made_from != made_from:
        raise UserError(
            f"{output}: contains a dataset made from other recordings or with other options; choose another --output "
            "or remove it"
        )
