"""One way from a source of signals to a dataset on disk, whatever the source.

Three passes, none of which holds more than a part of one recording: read each into a staging file and choose
its windows; deal the subjects to splits and fit the representation to the training one; write. Splitting
comes after reading, so that a subject whose recordings are all bad takes no place in a split.

Everything is written to a hidden folder beside the output, flushed, and renamed into place: a run that was
killed leaves no dataset, and the next one starts over. An output that holds a dataset made by the same
arguments is made again (the recordings may have changed); anything else that is in the way is refused.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signal_diffusion.data.card import CARD_NAME, SPLITS, DatasetCard, write_readme
from signal_diffusion.data.dataset import write_split
from signal_diffusion.data.preparing.captions import caption_of, check_template, default_template
from signal_diffusion.data.preparing.describing import attributes_of, describe_columns, describe_splits
from signal_diffusion.data.preparing.splitting import read_splits, split_groups, write_splits
from signal_diffusion.data.preparing.staging import Progress, Staged, Staging, reported, stage
from signal_diffusion.data.publishing import published
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import number_in
from signal_diffusion.data.recordings.windows import windows_in
from signal_diffusion.data.representations.representation import DEFAULT_PICTURES, PictureOptions, Representation
from signal_diffusion.errors import UserError, listed

__all__ = ["Source", "WindowOptions", "build", "silent"]


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
    splits_from: Path | None = None
    """A dataset, or its splits.json, whose people stay in their splits."""
    seed: int = 0
    """Of the splits, and of all that is synthetic."""
    captions: str | None = None
    """Template of `captions.caption_of`; None = the default one, "" = no captions."""
    pictures: PictureOptions = DEFAULT_PICTURES

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
    staging: Staging
    channels: tuple[str, ...]
    sources: list[dict[str, Any]]
    """What the card says of the inputs."""
    preprocessing: dict[str, Any]
    command: str
    made_from: str
    """Whatever has another value is another dataset."""
    extras: dict[str, str] = field(default_factory=dict)
    """Columns taken over from the subject table: name in the dataset → name there."""
    split_by: str = "subject"
    """`subject`, or a column of the subject table whose values stay together."""
    workers: int = 1
    skip_bad: bool = False


def silent(what: str, done: int, total: int) -> None:
    """Report no progress."""


def build(
    source: Source, output: Path, kind: type[Representation], options: WindowOptions, progress: Progress
) -> DatasetCard:
    """Read, split, fit and write; returns the card of the dataset that then lies at `output`."""
    captions = default_template(kind.column) if options.captions is None else options.captions
    check_template(captions, attributes_of(source.recordings[0], None, source.extras))
    dealt = read_splits(options.splits_from) if options.splits_from else None
    # What a representation refuses, it refuses now and not after hours of reading.
    kind.check(options.pictures, sampling_rate=options.rate, window=options.window, electrodes=len(source.channels))
    with published(output) as root:
        _check_replaceable(output, source.made_from)
        # Of a name of its own: a worker that outlived its parent must not write into the next run's.
        folder = Path(tempfile.mkdtemp(prefix="staging-", dir=root))
        staged, rejected, skipped = stage(
            source.recordings,
            folder,
            source.staging,
            workers=source.workers,
            skip_bad=source.skip_bad,
            progress=progress,
        )
        splits = _splits(staged, source, options, dealt)
        representation = kind.fit(
            (
                signals
                for each in reported(splits["train"], "measuring", progress)
                for _, signals in _signals(each, options.window)
            ),
            sampling_rate=options.rate,
            window=options.window,
            pictures=options.pictures,
        )
        card = _card(source, representation, options, splits, captions)
        card = replace(card, rejected=rejected, skipped=skipped)
        files: dict[str, str] = {}
        for split, members in splits.items():
            tracked = reported(members, f"writing {split}", progress)
            rows = (rows for each in tracked for rows in _rows(each, representation, card, source.extras))
            files |= write_split(root, split, card, rows)
        shutil.rmtree(folder)
        card = replace(card, files=files)
        write_readme(root, card)
        write_splits(root, {split: entry["subjects"] for split, entry in card.splits.items()})
        card.save(root)
    return card


def _splits(
    staged: Sequence[Staged], source: Source, options: WindowOptions, dealt: Mapping[str, str] | None
) -> dict[str, list[Staged]]:
    """Deal recordings by subject; splits without anyone are left out."""
    split_of = dealt if dealt is not None else _dealt(staged, source.split_by, options)
    unknown = sorted({each.recording.subject for each in staged} - split_of.keys())
    if unknown:
        raise UserError(
            f"--splits-from {options.splits_from}: has no {listed(unknown)}; "
            "leave these people out, or deal all anew without it"
        )
    splits = {split: [each for each in staged if split_of[each.recording.subject] == split] for split in SPLITS}
    if not splits["train"]:
        raise UserError(f"--splits-from {options.splits_from}: none of the people there is in the training split")
    return {split: members for split, members in splits.items() if members}


def _dealt(staged: Sequence[Staged], split_by: str, options: WindowOptions) -> dict[str, str]:
    """Deal subjects anew, stratified by the first attribute that everyone has just one value of."""
    traits = [
        [next(iter(set(each.labels))) if len(set(each.labels)) == 1 else None for each in staged],
        [each.recording.health for each in staged],
        [each.recording.gender for each in staged],
    ]
    strata = {each.recording.subject: "" for each in staged}
    for values in traits:
        pairs = {(each.recording.subject, value) for each, value in zip(staged, values, strict=True)}
        if len(pairs) == len(strata) and len(set(values)) > 1:
            strata = {subject: str(value) for subject, value in pairs}
            break
    groups: dict[str, str | None] = {}
    if split_by != "subject":
        groups = {each.recording.subject: each.recording.participant.get(split_by) for each in staged}
    return split_groups(strata, groups, options.splits, options.seed)


def _signals(staged: Staged, window: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Give which of the kept windows, and their µV (n, channels, window), a few at a time."""
    for part, signals in windows_in(staged.path, staged.starts[staged.kept], window):
        yield part, torch.from_numpy(signals)


def _rows(
    staged: Staged, representation: Representation, card: DatasetCard, extras: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    assert card.window is not None
    electrodes = card.channels if representation.per_electrode else ("",)
    for part, signals in _signals(staged, card.window):
        numbers, labels = staged.kept[part], staged.labels[part]
        tensors = representation.to_tensor(signals).numpy().astype(np.float16)
        known = [attributes_of(staged.recording, label, extras) for label in labels]
        if card.captions:
            known = [values | {"caption": caption_of(card.captions, values)} for values in known]
        columns: dict[str, Any] = {name: [values[name] for values in known for _ in electrodes] for name in known[0]}
        for name in extras:
            if name in card.columns and card.columns[name]["kind"] == "numeric":
                columns[name] = [None if value is None else number_in(value) for value in columns[name]]
        columns |= {"window": np.repeat(numbers, len(electrodes)), "electrode": list(electrodes) * len(numbers)}
        row = {name: values for name, values in columns.items() if name in card.columns}
        yield {representation.column: tensors.reshape(-1, *card.shape), **row}


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
        channels=source.channels,
        columns=columns | ({"caption": {"kind": "text"}} if captions else {}),
        splits=describe_splits(splits, columns, source.extras, len(electrodes) or 1),
        captions=captions,
        preprocessing=source.preprocessing,
        sources=source.sources,
        command=source.command,
        made_from=source.made_from,
    )


def _check_replaceable(output: Path, made_from: str) -> None:
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / CARD_NAME).exists():
        raise UserError(f"{output}: exists and is not a dataset; choose another --output or remove it")
    if DatasetCard.load(output).made_from != made_from:
        raise UserError(
            f"{output}: holds a dataset made of other recordings or by other arguments; choose another --output or "
            "remove it"
        )
