"""Read windows to judge, or to judge by: of a prepared dataset, of samples, or of recordings that anybody wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import MappedTensors, open_split, split_name
from signal_diffusion.data.export.assembling import assemble_windows
from signal_diffusion.data.montages import examples_with, main_montage, montages_of
from signal_diffusion.data.overview import read_columns
from signal_diffusion.data.preparing.captions import values_of
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.stored_signals import open_signals, signals_of
from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.people import SUBJECT, spread_over_people
from signal_diffusion.evaluation.recorded import read_recordings
from signal_diffusion.evaluation.stored_spectrograms import Spectrograms, spectrograms_in, spectrograms_of
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.randomness import Purpose, generator_for

__all__ = ["MOST", "read_dataset", "read_windows", "split_of", "windows_of_card"]

MOST = 2000
"""Largest number of windows that are read of a dataset, as evenly from all people as possible."""
EXAMPLES_AT_ONCE = 256
"""Examples that are looked at together for the electrodes that they have."""
WHOSE = ("dataset", SUBJECT, "recording", "window")


def read_windows(source: str | Path, *, seconds: float | None = None) -> Windows:
    """Read what is to be judged: samples, a dataset, or a folder or file of recordings.

    Continuous recordings are cut into windows of `seconds`. Of a dataset, all windows, or those of "DATASET:SPLIT".

    Raises
    ------
    UserError
        If nothing can be read, or there are no signals in µV.
    """
    path, split = split_of(str(source), "")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; expected samples, a dataset, or recordings")
    if (path / CARD_NAME).is_file():
        return read_dataset(path, split or None)
    if (path / "samples.npz").is_file() and (path / "samples.json").is_file():
        return _read_samples(path)
    return read_recordings(path, seconds)


def split_of(text: str, default: str) -> tuple[Path, str]:
    """Split "DATASET:SPLIT" into the folder and the split, which is `default` if none is named."""
    root, colon, split = text.rpartition(":")
    if colon and not Path(text).exists():
        return Path(root).expanduser(), split
    return Path(text).expanduser(), default


def read_dataset(
    root: Path, split: str | None, *, most: int = MOST, seed: int = 0, electrodes: Sequence[str] | None = None
) -> Windows:
    """Read up to `most` windows of a split of a dataset, or of each of its splits; its name says so if it has more.

    If some recordings lack electrodes, these are the windows that have just these `electrodes`; None = those of the
    montage that most examples of these splits have.
    """
    card = DatasetCard.load(root)
    if card.representation["inverse"] == "none" or card.sampling_rate is None:
        raise UserError(f"{root}: its examples cannot be turned into microvolts; expected a dataset of signals")
    splits = list(card.splits) if split is None else [split_name(card, split, root)]
    own = list(card.channels)
    if is_mixed := bool(montages_of(card)):
        own = main_montage(card, splits) if electrodes is None else [each for each in own if each in electrodes]
    if not examples_with(card, own, splits):
        raise UserError(
            f"{root}: {' and '.join(splits)} has no windows of just {listed(own)}, like those to compare with; prepare "
            "a dataset with --channels that all recordings have"
        )
    parts = [_read_split(root, each, card, own, most, seed) for each in splits if examples_with(card, own, [each])]
    positions = {each: card.positions[each] for each in own if each in card.positions}
    frame = pd.concat([part.frame for part in parts], ignore_index=True)
    name = f"{root.resolve().name}:{split}" if split else root.resolve().name
    total = sum(card.splits[each]["windows"] for each in splits)
    if len(frame) < total:
        name += f", {len(frame)} of {total} windows"
    if is_mixed:
        name += f", those with {len(own)} of {len(card.channels)} electrodes"
    starts = np.cumsum([0] + [len(part.examples) for part in parts[:-1]])
    return windows_of_card(
        np.concatenate([part.signals for part in parts]),
        replace(card, channels=tuple(own), positions=positions),
        frame,
        name=name,
        spectrograms=spectrograms_of(
            card,
            MappedTensors.joined([part.examples for part in parts]),
            np.concatenate([start + part.rows for start, part in zip(starts, parts, strict=True)]),
        ),
    )


def windows_of_card(
    signals: np.ndarray,
    card: DatasetCard,
    frame: pd.DataFrame,
    *,
    name: str,
    spectrograms: Spectrograms | None = None,
) -> Windows:
    """Windows of signals in µV that a dataset's card describes, (N, electrodes, samples) or, of one each, (N, samples).

    Single electrodes are windows of one electrode, "EEG", with a column `electrode` if they are known. What captions
    by the card's template say of windows, such as their label, becomes columns too, unless there are such columns.
    `spectrograms` are those that the signals were made from.
    """
    single = signals.ndim == 2
    return Windows(
        signals=signals[:, None] if single else signals,
        sfreq=float(card.sampling_rate or 0),
        ch_names=("EEG",) if single else card.channels,
        columns=_of_captions(card, frame) | {str(column): frame[column].to_numpy() for column in frame},
        name=name,
        positions={} if single else card.positions,
        tmin=card.tmin,
        made={key: card.preprocessing[key] for key in ("reference", "band") if key in card.preprocessing}
        | {"inverse": card.representation["inverse"]},
        spectrograms=spectrograms,
    )


def _of_captions(card: DatasetCard, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The columns that captions by the card's template were made from; "" where a caption does not say."""
    if not card.captions or "caption" not in frame:
        return {}
    names = {name: column["names"] for name, column in card.columns.items() if "names" in column}
    found = [values_of(card.captions, str(text), names) for text in frame["caption"]]
    return {name: np.array([each.get(name, "") for each in found]) for name in dict.fromkeys(chain(*found))}


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Windows of one split."""

    signals: np.ndarray
    """µV, (N, electrodes, samples)."""
    frame: pd.DataFrame
    examples: MappedTensors
    rows: np.ndarray
    """Rows of `examples` that each window is made from, (N,) or (N, electrodes)."""


def _read_split(root: Path, split: str, card: DatasetCard, electrodes: Sequence[str], most: int, seed: int) -> _Part:
    representation = representation_of(card)
    frame = read_columns(root, split, [name for name in card.columns if name != "caption"])
    keys = [name for name in WHOSE if name in frame]
    if representation.per_electrode and not {"recording", "window", "electrode"} <= {*frame}:
        raise UserError(
            f"{root}: its examples are single electrodes, and without columns recording, window and electrode it is "
            "unknown which belong together; make the dataset again"
        )
    number = frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy() if keys else np.arange(len(frame))
    tensors = MappedTensors(open_split(root, split, card).data.column(card.representation["column"]), card.shape)
    own = [card.channels.index(name) for name in electrodes]
    usable = _with_electrodes(tensors, own) if montages_of(card) else np.arange(len(number))
    kept = _evenly(frame.iloc[usable], number[usable], most, seed)
    rows = usable[np.isin(number[usable], kept)]
    random = generator_for(Purpose.SIGNAL, seed)
    signals = signals_of(representation, tensors, rows, random)
    if montages_of(card):
        signals = signals[:, own]
    frame = frame.iloc[rows].reset_index(drop=True)
    if representation.per_electrode:
        order, frame = assemble_windows(np.arange(len(rows)), card, frame)
        signals, rows = signals[order], rows[order]
    return _Part(signals=signals, frame=frame, examples=tensors, rows=rows)


def _with_electrodes(tensors: MappedTensors, electrodes: Sequence[int]) -> np.ndarray:
    """Rows of the examples (C, H, W) of which just these rows H are there; the others are NaN."""
    parts = np.array_split(np.arange(len(tensors)), -(-len(tensors) // EXAMPLES_AT_ONCE))
    present = np.concatenate([~np.isnan(tensors[part][:, 0, :, 0]) for part in parts])  # (n, H)
    return np.flatnonzero((present == np.isin(np.arange(tensors.shape[1]), electrodes)).all(1))


def _evenly(frame: pd.DataFrame, number: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Numbers of up to `most` windows: everyone's first in a random order, everyone's second, …"""
    numbers, first = np.unique(number, return_index=True)
    if len(numbers) <= most:
        return numbers
    people = frame[SUBJECT].iloc[first].to_numpy() if SUBJECT in frame else None
    return numbers[spread_over_people(people, np.random.default_rng(seed), count=len(numbers))[:most]]


def _read_samples(root: Path) -> Windows:
    stored = open_signals(root)
    parts = [_cut(signals, columns, stored.card.window) for signals, columns in stored.recordings()]
    if not parts:
        raise UserError(f"{root}: has no samples; sample again")
    frame = pd.concat([columns for _, columns in parts], ignore_index=True)
    return windows_of_card(
        np.concatenate([signals for signals, _ in parts]),
        stored.card,
        frame,
        name=root.resolve().name,
        spectrograms=spectrograms_in(stored.card, stored.tensors()),
    )


def _cut(signals: np.ndarray, frame: pd.DataFrame, window: int | None) -> tuple[np.ndarray, pd.DataFrame]:
    """A sample (1, electrodes, samples) and its row of metadata; a long recording is cut into windows of the model."""
    count = signals.shape[-1] // window if window else 1
    if count < 2:
        return signals, frame
    assert window is not None
    cut = np.stack(np.split(signals[0, ..., : count * window], count, axis=-1))
    return cut, frame.loc[frame.index.repeat(count)].reset_index(drop=True)
