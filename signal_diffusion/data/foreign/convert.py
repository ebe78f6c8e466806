"""Datasets of others, converted once into our own format, in the cache: folders of pictures, Parquet files, the Hub.

What there is (`found_splits`) is told from the names of folders and files, and read a few examples at a time, the
tensors apart from all other columns. Nothing beyond this file knows that a dataset was not made by `prepare`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import filelock
import numpy as np
import torch

from signal_diffusion.data.balancing import marginals_of_split
from signal_diffusion.data.card import CARD_NAME, FORMAT_VERSION, SPLITS, DatasetCard, write_readme
from signal_diffusion.data.dataset import write_split
from signal_diffusion.data.foreign.rows import (
    METADATA,
    Rows,
    described_columns,
    files_in,
    folder_rows,
    parquet_rows,
    stated,
)
from signal_diffusion.data.publishing import published
from signal_diffusion.data.representations.pictures import Picture, picture_size, read_picture
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError

__all__ = ["Place", "Wanted", "convert", "found_splits", "place_of"]

logger = logging.getLogger(__name__)

Place = Path | tuple[Path, ...]
"""Where a split is: a folder of pictures, or its Parquet files."""

_VERSION = 2  # of the conversion: another one makes another folder in the cache
_AT_ONCE = 64
_CHANNELS = {"db-only": 1, "db-iq": 3, "db-polar": 3}
_SMALLEST_STD = 1e-3  # µV; a scalp has some 10 µV, which are 1e-5 in volts

_FOLDERS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_IN_A_NAME = re.compile(rf"(?:^|[_.-])({'|'.join(_FOLDERS)})(?=$|[_.0-9-])")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an experiment makes of a dataset that is not ours."""

    representation: str
    """`image`, `db-only`, `db-iq`, `db-polar` or `timeseries`."""
    columns: Mapping[str, str]
    """Our name of a column → the dataset's: `image`, `signal`, `label`, `gender`, `health`, `age`, `caption`."""
    image_size: int | None = None
    """Pixels of an edge; None = the pictures' own, if all are square and alike."""
    sampling_rate: float | None = None
    """Hz; of signals alone, which may say it themselves."""
    min_channels: int = 1
    """3 makes colour pictures of grey ones."""


def convert(places: Mapping[str, Place], wanted: Wanted, cache: Path, *, name: str, aliases: Mapping[str, str]) -> Path:
    """Make a dataset of our own from splits (split → place), once: a folder below `cache`.

    Parameters
    ----------
    places
        What `found_splits` gives.
    wanted
        The experiment's part.
    cache
        Folder of all conversions. Which one this is follows from the files, their sizes and times, and `wanted`.
    name
        The dataset's, for its card.
    aliases
        Other names of the splits in the experiment, such as a folder's: name → split.

    Raises
    ------
    UserError
        For the first file or row that cannot be used; nothing is then left in the cache.
    """
    key = {
        "version": [_VERSION, FORMAT_VERSION],
        "wanted": asdict(wanted),
        "files": {split: _fingerprint(place) for split, place in places.items()},
        "aliases": dict(aliases),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]
    root = cache / digest
    cache.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(cache / f".{digest}.wait"):  # whoever comes second waits, and uses what the first one made
        if not (root / CARD_NAME).exists():  # whole once it is there: it is renamed into place
            logger.info("converting %s into %s", name, root)
            with published(root) as partial:
                _write(partial, places, wanted, name, aliases)
    return root


def found_splits(root: Path) -> dict[str, Place]:
    """Find the splits of a folder that is not one of our datasets, by name: split → place."""
    files = sorted(path for path in root.rglob("*.parquet") if not _hidden(path, root))
    places: dict[str, Place] = {}
    if files:
        for path in files:
            split = _split_of(path.relative_to(root))
            if split is None:
                raise UserError(f"{path}: its name tells no split; expected train*.parquet, or train/*.parquet")
            places[split] = (*places.get(split, ()), path)  # type: ignore[misc]  # only files so far
        for split, mine in places.items():
            if len({path.parent for path in mine}) > 1:  # type: ignore[union-attr]
                raise UserError(
                    f"{root}: the split {split!r} lies in several folders; name the folder of one dataset as root"
                )
    else:
        for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
            split = _FOLDERS.get(folder.name.lower())
            if split in places:
                raise UserError(f"{folder}: a second folder of the split {split!r}; expected one")
            if split is not None:
                places[split] = folder
    if "train" not in places:
        there = f"only {', '.join(places)}" if places else "no split"
        raise UserError(
            f"{root}: no training split, {there}; expected a dataset of `signal-diffusion prepare` ({CARD_NAME}), "
            "folders of pictures (train/, validation/), or Parquet files (train*.parquet or train/*.parquet, …)"
        )
    return {split: places[split] for split in SPLITS if split in places}


def place_of(folder: Path, key: str) -> Place:
    """Take a folder as one split, whatever its name is; `key` is the experiment's, for the error."""
    if not folder.is_dir():
        raise UserError(f"{key}: {folder} is no folder; expected one of pictures or Parquet files")
    for root in (folder, folder.absolute().parent):
        if (root / CARD_NAME).exists():
            raise UserError(f'{key}: {folder} is of a dataset of ours; set [data.paths] root = "{root}" instead')
    return tuple(sorted(folder.glob("*.parquet"))) or folder


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _split_of(path: Path) -> str | None:
    """The split that a file's name tells, or else the nearest folder's: train-00000-of-00002.parquet, train/0.parquet.

    None where none of them does.
    """
    for name in (path.stem, *reversed(path.parts[:-1])):
        if found := _IN_A_NAME.search(name.lower()):
            return _FOLDERS[found[1]]
    return None


def _fingerprint(place: Place) -> list[list[Any]]:
    """Path, size and time of every file that may be read."""
    files = place if isinstance(place, tuple) else sorted([*files_in(place), *place.parent.glob(METADATA)])
    return [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


# Writing --------------------------------------------------------------------------------------------------------------


def _write(root: Path, places: Mapping[str, Place], wanted: Wanted, name: str, aliases: Mapping[str, str]) -> None:
    kind = TimeSeries if wanted.representation == TimeSeries.name else Picture
    column = wanted.columns[kind.column]
    splits = {split: _rows(place, column, wanted) for split, place in places.items()}
    described, values = described_columns(splits, wanted.columns)
    about = stated(splits.values()) if kind is TimeSeries else {}
    fitted, notes = _signals(splits, wanted, about["sampling_rate"]) if about else _pictures(splits, wanted)
    card = DatasetCard(
        representation={
            "name": wanted.representation,
            "layout": fitted.layout,
            "inverse": fitted.inverse,
            "column": column,
            "parameters": fitted.parameters(),
        },
        shape=fitted.shape,
        sampling_rate=fitted.sampling_rate if isinstance(fitted, TimeSeries) else None,
        window=fitted.window if isinstance(fitted, TimeSeries) else None,
        channels=_electrodes(about["ch_names"], fitted) if isinstance(fitted, TimeSeries) else (),
        columns=described,
        splits={split: _counts(split, rows.count, described, values[split]) for split, rows in splits.items()},
        preprocessing={"splits": dict(aliases), **notes},
        sources=[{"name": name, "license": None, "description": "converted, not made by `signal-diffusion prepare`"}],
        command=f"converted from {name}",
        made_from=name,
        unit="µV" if isinstance(fitted, TimeSeries) else None,
    )
    files: dict[str, str] = {}
    for split, rows in splits.items():
        files |= write_split(root, split, card, _batches(rows, values[split], fitted, column))
    card = replace(card, files=files)
    _warn_of_people_in_two_splits(card)
    write_readme(root, card)
    card.save(root)


def _warn_of_people_in_two_splits(card: DatasetCard) -> None:
    """The splits are others' and are taken as they are; what they measure is worth a word."""
    people = Counter(subject for split in card.splits.values() for subject in split["subjects"])
    if twice := [subject for subject, count in people.items() if count > 1]:
        logger.warning(
            "%d of %d subjects are in two splits (%s, …): validation then measures how well people are remembered",
            len(twice), len(people), twice[0],
        )  # fmt: skip


def _rows(place: Place, column: str, wanted: Wanted) -> Rows:
    if isinstance(place, tuple):
        return parquet_rows(place, column)
    if wanted.representation == TimeSeries.name:
        raise UserError(
            f"{place}: a folder of pictures has no signals; expected Parquet files with a column {column!r}"
        )
    rows = folder_rows(place, label=wanted.columns["label"])
    if column in rows.columns:
        raise UserError(f"{place}: {column!r} is a column beside the pictures, whose own name it is; rename it")
    return rows


def _pictures(splits: Mapping[str, Rows], wanted: Wanted) -> tuple[Picture, dict[str, Any]]:
    """Decide on channels and size, having looked at the header of each picture."""
    counts: Counter[int] = Counter()
    sizes: dict[tuple[int, int], str] = {}
    in_colour = ""
    for rows in splits.values():
        for where, raw in rows.tensors():
            found, size = picture_size(raw, where)
            counts[found] += 1
            sizes.setdefault(size, where)
            in_colour = in_colour or (where if found == 3 else "")
    channels = _CHANNELS.get(wanted.representation, 3 if in_colour else wanted.min_channels)
    if channels == 1 and in_colour:
        raise UserError(
            f"{in_colour}: has three channels, but [data] representation = {wanted.representation!r} has one; expected "
            "grey pictures, or another representation, such as 'image'"
        )
    if wanted.representation in _CHANNELS:
        logger.warning(
            "%s pictures without limits and scales: no sample of these can become a signal", wanted.representation
        )
    arrays = [raw for _, raw in islice(splits["train"].tensors(), _AT_ONCE) if isinstance(raw, np.ndarray)]
    if arrays and all(raw.min() >= 0 for raw in arrays):  # none is above 1, or it would have been refused
        logger.warning("the first arrays lie in [0, 1], which is half of the expected [-1, 1]: scale them by 2 x - 1")
    (height, width), *others = sizes
    if wanted.image_size is None and (others or height != width):
        shown = ", ".join(f"{h}×{w} ({where})" for (h, w), where in list(sizes.items())[:2])
        raise UserError(f"[data] image_size: expected an edge in pixels, as the pictures' heights × widths are {shown}")
    repeated = counts[1] if channels == 3 else 0
    if repeated:
        logger.warning("%d of %d pictures are grey: repeated to three channels", repeated, counts.total())
    return Picture(channels=channels, size=wanted.image_size or height), {"repeated_to_three_channels": repeated}


def _signals(splits: Mapping[str, Rows], wanted: Wanted, said: float | None) -> tuple[TimeSeries, dict[str, Any]]:
    """Fit to the training split, having held every signal against the first one's shape."""
    rate = wanted.sampling_rate
    if rate is None and said is None:
        raise UserError("[data] sampling_rate: expected the signals' rate in Hz, which this dataset does not say")
    if None not in (rate, said) and rate != said:
        raise UserError(f"[data] sampling_rate: {rate:g} Hz, but the dataset says {said:g} Hz; leave the key out")
    shape: tuple[int, ...] = ()
    for rows in splits.values():
        for where, raw in rows.tensors():
            if not isinstance(raw, np.ndarray) or raw.ndim != 2 or not raw.size or raw.shape != (shape or raw.shape):
                found = raw.shape if isinstance(raw, np.ndarray) else "a picture"
                expected = shape or "(electrodes, samples)"
                raise UserError(f"{where}: a signal of shape {found}; expected {expected}, the same in all rows")
            if not np.isfinite(raw).all():
                raise UserError(f"{where}: a signal with values that are not finite; repair the row or leave it out")
            shape = raw.shape
    training = (torch.from_numpy(np.stack([raw for _, raw in some])) for some in _some(splits["train"]))
    fitted = TimeSeries.fit(training, sampling_rate=cast(float, rate or said), window=shape[1])
    if max(fitted.std) < _SMALLEST_STD:
        raise UserError(
            f"the signals vary by {max(fitted.std):.2g} at most; expected µV, and volts are to be times 1e6"
        )
    return fitted, {}


def _electrodes(ch_names: list[str] | None, fitted: TimeSeries) -> tuple[str, ...]:
    names = tuple(ch_names or (str(number + 1) for number in range(fitted.shape[1])))
    if len(names) != fitted.shape[1]:
        raise UserError(f"ch_names: {len(names)} names, but the signals have {fitted.shape[1]} electrodes")
    return names


def _counts(
    split: str, examples: int, described: Mapping[str, dict[str, Any]], values: Mapping[str, list[Any]]
) -> dict[str, Any]:
    columns = {name: values[name] for name, column in described.items() if column["kind"] == "categorical"}
    windows = [values.get(name, [None] * examples) for name in ("dataset", "recording", "window")]
    distinct = len(set(zip(*windows, strict=True))) if {"recording", "window"} <= values.keys() else examples
    return {
        "examples": examples,
        "windows": distinct,
        "subjects": sorted(set(values.get("subject", ())) - {None}),
        "marginals": marginals_of_split(split, columns),
    }


def _batches(
    rows: Rows, values: Mapping[str, list[Any]], fitted: Picture | TimeSeries, column: str
) -> Iterator[dict[str, Any]]:
    """Give the columns of some examples at a time, as `write_split` takes them."""
    start = 0
    for some in _some(rows):
        if isinstance(fitted, Picture):
            read = [read_picture(raw, where, channels=fitted.channels, size=fitted.size) for where, raw in some]
            tensors = np.stack(read)
        else:
            tensors = fitted.to_tensor(torch.from_numpy(np.stack([raw for _, raw in some]))).numpy()
        end = start + len(some)
        yield {column: tensors.astype(np.float16), **{name: each[start:end] for name, each in values.items()}}
        start = end


def _some(rows: Rows) -> Iterator[list[tuple[str, Any]]]:
    """Read the tensors of a split, a few at a time."""
    tensors = rows.tensors()
    while some := list(islice(tensors, _AT_ONCE)):
        yield some
