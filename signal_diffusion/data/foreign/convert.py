"""Convert datasets that `prepare` did not make (image folders, Parquet files, the Hub) once, into the cache.

Splits are recognised by the names of folders and files (`find_splits`). Tensors are read a few examples at a time,
separately from all other columns. Only this file knows that a dataset was not made by `prepare`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import filelock
import numpy as np
import torch

from signal_diffusion.data.balancing import marginals_of_split
from signal_diffusion.data.card import CARD_NAME, FORMAT_VERSION, SPLITS, DatasetCard, write_readme
from signal_diffusion.data.dataset import SOURCES, write_split
from signal_diffusion.data.foreign.rows import (
    METADATA,
    Rows,
    described_columns,
    files_in,
    folder_rows,
    parquet_rows,
    signal_metadata,
)
from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.data.representations.pictures import Picture, image_dimensions, read_image
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.errors import UserError, listed

__all__ = ["ConversionOptions", "SplitLocation", "convert", "find_splits", "split_location"]

logger = logging.getLogger(__name__)

SplitLocation = Path | tuple[Path, ...]
"""Location of a split: a folder of images, or its Parquet files."""

_VERSION = 3  # of the conversion; increase it to convert again into a new folder of the cache
_AT_ONCE = 64  # examples
_CHANNELS = {"db-only": 1, "db-iq": 3, "db-polar": 3}
_SMALLEST_STD = 1e-3  # µV; scalp EEG has about 10 µV, which would be 1e-5 if given in volts

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
class ConversionOptions:
    """How an experiment wants a foreign dataset to be converted."""

    representation: str
    """`image`, `db-only`, `db-iq`, `db-polar` or `timeseries`."""
    columns: Mapping[str, str]
    """Our name of a column (`image`, `signal`, `label`, `gender`, `health`, `age`, `caption`) → the dataset's name."""
    image_size: int | None = None
    """Height and width, pixels; None = that of the images, if all are square and of one size."""
    sampling_rate: float | None = None
    """Hz, only for signals; None = as stated in the files."""
    min_channels: int = 1
    """3 repeats grey images to three channels."""


def convert(
    places: Mapping[str, SplitLocation],
    wanted: ConversionOptions,
    cache: Path,
    *,
    name: str,
    aliases: Mapping[str, str],
) -> Path:
    """Convert splits (split → place) to a dataset of our format, once; returns its folder in `cache`.

    Parameters
    ----------
    places
        Result of `find_splits`.
    wanted
        Representation, columns and sizes that the experiment asks for.
    cache
        Folder of all conversions; the name of each depends on `wanted` and the files, their sizes and times.
    name
        Name of the dataset, for its card.
    aliases
        Other names of splits that the experiment may use, such as folders: name → split.

    Raises
    ------
    UserError
        For the first file or row that cannot be used; nothing is left in the cache.
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
    with filelock.FileLock(cache / f".{digest}.wait"):  # a second process waits, and uses the result of the first
        if not (root / CARD_NAME).exists():  # complete if it exists: it is renamed into place
            logger.info("converting %s into %s", name, root)
            with atomic_folder(root) as partial:
                _write(partial, places, wanted, name, aliases)
    return root


def find_splits(root: Path) -> dict[str, SplitLocation]:
    """Find the splits of a foreign dataset by the names of folders and files: split → place."""
    files = sorted(path for path in root.rglob("*.parquet") if not _hidden(path, root))
    places: dict[str, SplitLocation] = {}
    if files:
        for path in files:
            split = _split_of(path.relative_to(root))
            if split is None:
                raise UserError(f"{path}: no split in its name; expected train*.parquet or train/*.parquet")
            places[split] = (*places.get(split, ()), path)  # type: ignore[misc]  # only files so far
        for split, paths in places.items():
            if len({path.parent for path in paths}) > 1:  # type: ignore[union-attr]
                raise UserError(
                    f"{root}: the split {split!r} is spread over several folders; set root to the folder of one dataset"
                )
    else:
        for folder in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
            split = _FOLDERS.get(folder.name.lower())
            if split in places:
                raise UserError(f"{folder}: second folder for the split {split!r}; expected one")
            if split is not None:
                places[split] = folder
    if "train" not in places:
        found = f"found only {', '.join(places)}" if places else "found no split"
        raise UserError(
            f"{root}: no training split, {found}; expected a dataset of `signal-diffusion prepare` ({CARD_NAME}), "
            "folders of images (train/, validation/), or Parquet files (train*.parquet or train/*.parquet, …)"
        )
    return {split: places[split] for split in SPLITS if split in places}


def split_location(folder: Path, key: str) -> SplitLocation:
    """Use a folder as one split, whatever its name; `key` is the experiment's key, for errors."""
    if not folder.is_dir():
        raise UserError(f"{key}: {folder} is not a folder; expected a folder of images or Parquet files")
    for root in (folder, folder.absolute().parent):
        if (root / CARD_NAME).exists():
            raise UserError(
                f"{key}: {folder} belongs to a dataset made by `signal-diffusion prepare`; "
                f'set [data.paths] root = "{root}" instead'
            )
    return tuple(sorted(folder.glob("*.parquet"))) or folder


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _split_of(path: Path) -> str | None:
    """Split in the name of a file, or else of its nearest folder: train-00000-of-00002.parquet, train/0.parquet.

    None if there is none.
    """
    for name in (path.stem, *reversed(path.parts[:-1])):
        if found := _IN_A_NAME.search(name.lower()):
            return _FOLDERS[found[1]]
    return None


def _fingerprint(place: SplitLocation) -> list[list[Any]]:
    """Path, size and modification time of every file that may be read."""
    files = place if isinstance(place, tuple) else sorted([*files_in(place), *place.parent.glob(METADATA)])
    return [[str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


# Writing --------------------------------------------------------------------------------------------------------------


def _write(
    root: Path, places: Mapping[str, SplitLocation], wanted: ConversionOptions, name: str, aliases: Mapping[str, str]
) -> None:
    kind = TimeSeries if wanted.representation == TimeSeries.name else Picture
    column = wanted.columns[kind.column]
    splits = {split: _rows(place, column, wanted) for split, place in places.items()}
    described, values, read = described_columns(splits, wanted.columns)
    for note in read:
        logger.warning("%s: %s", name, note)
    about = signal_metadata(splits.values()) if kind is TimeSeries else {}
    fitted, notes = (
        _signal_representation(splits, wanted, about["sampling_rate"], about["ch_names"])
        if about
        else _image_representation(splits, wanted)
    )
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
        preprocessing={"splits": dict(aliases), **notes, **({"participants": read} if read else {})},
        sources=[{"name": name, "license": None, "description": "converted, not made by `signal-diffusion prepare`"}],
        command=f"converted from {name}",
        made_from=name,
        unit="µV" if isinstance(fitted, TimeSeries) else None,
    )
    files: dict[str, str] = {}
    for split, rows in splits.items():
        files |= write_split(root, split, card, _batches(rows, values[split], fitted, column))
    card = replace(card, files=files)
    _warn_if_splits_share_subjects(card)
    write_readme(root, card)
    card.save(root)


def _warn_if_splits_share_subjects(card: DatasetCard) -> None:
    """Foreign splits are used as they are; warn if validation would measure memorised subjects."""
    subjects = Counter(subject for split in card.splits.values() for subject in split["subjects"])
    if twice := [subject for subject, count in subjects.items() if count > 1]:
        logger.warning(
            "%d of %d subjects are in two splits (%s, …): validation will measure how well subjects are memorised",
            len(twice), len(subjects), twice[0],
        )  # fmt: skip


def _rows(place: SplitLocation, column: str, wanted: ConversionOptions) -> Rows:
    if isinstance(place, tuple):
        return parquet_rows(place, column)
    if wanted.representation == TimeSeries.name:
        raise UserError(f"{place}: a folder of images has no signals; expected Parquet files with a column {column!r}")
    rows = folder_rows(place, label=wanted.columns["label"])
    if column in rows.columns:
        raise UserError(
            f"{place}: the table has a column {column!r}, which is the name of the images themselves; rename it"
        )
    return rows


def _image_representation(splits: Mapping[str, Rows], wanted: ConversionOptions) -> tuple[Picture, dict[str, Any]]:
    """Choose channels and size from the headers of all images."""
    counts: Counter[int] = Counter()
    sizes: dict[tuple[int, int], str] = {}
    in_colour = ""
    for rows in splits.values():
        for where, raw in rows.tensors():
            found, size = image_dimensions(raw, where)
            counts[found] += 1
            sizes.setdefault(size, where)
            in_colour = in_colour or (where if found == 3 else "")
    channels = _CHANNELS.get(wanted.representation, 3 if in_colour else wanted.min_channels)
    if channels == 1 and in_colour:
        raise UserError(
            f"{in_colour}: has three channels, but [data] representation = {wanted.representation!r} has one; use grey "
            "images, or another representation such as 'image'"
        )
    if wanted.representation in _CHANNELS:
        logger.warning(
            "%s images without limits and scales: samples cannot be turned into signals", wanted.representation
        )
    arrays = [raw for _, raw in islice(splits["train"].tensors(), _AT_ONCE) if isinstance(raw, np.ndarray)]
    if arrays and all(raw.min() >= 0 for raw in arrays):  # values above 1 have already been refused
        logger.warning("the first arrays are in [0, 1], half of the expected [-1, 1]; rescale them with 2 x - 1")
    (height, width), *others = sizes
    if wanted.image_size is None and (others or height != width):
        shown = ", ".join(f"{h}×{w} ({where})" for (h, w), where in list(sizes.items())[:2])
        raise UserError(
            f"[data] image_size: set it, in pixels: the images are not square or differ in height × width: {shown}"
        )
    repeated = counts[1] if channels == 3 else 0
    if repeated:
        logger.warning("%d of %d images are grey: repeated to three channels", repeated, counts.total())
    return Picture(channels=channels, size=wanted.image_size or height), {"repeated_to_three_channels": repeated}


def _signal_representation(
    splits: Mapping[str, Rows],
    wanted: ConversionOptions,
    stated: float | None,
    ch_names: Sequence[str] | None,
) -> tuple[TimeSeries, dict[str, Any]]:
    """Check that all signals have one shape, then fit to the training split."""
    rate = wanted.sampling_rate
    if rate is None and stated is None:
        raise UserError("[data] sampling_rate: not set, and the dataset does not state it; set it, in Hz")
    if None not in (rate, stated) and rate != stated:
        raise UserError(f"[data] sampling_rate: {rate:g} Hz, but the dataset says {stated:g} Hz; leave the key out")
    shape: tuple[int, ...] = ()
    for rows in splits.values():
        for where, raw in rows.tensors():
            if not isinstance(raw, np.ndarray) or raw.ndim != 2 or not raw.size or raw.shape != (shape or raw.shape):
                found = raw.shape if isinstance(raw, np.ndarray) else "an image"
                expected = shape or "(electrodes, samples)"
                raise UserError(f"{where}: expected a signal of shape {expected}, the same in all rows; found {found}")
            if not np.isfinite(raw).all():
                _refuse_not_finite(where, raw, ch_names)
            shape = raw.shape
    training = (torch.from_numpy(np.stack([raw for _, raw in some])) for some in _chunks(splits["train"]))
    fitted = TimeSeries.fit(training, sampling_rate=cast(float, rate or stated), window=shape[1])
    if max(fitted.std) < _SMALLEST_STD:
        raise UserError(
            f"the signals have standard deviations up to {max(fitted.std):.2g}; expected µV: multiply volts by 1e6"
        )
    return fitted, {}


def _refuse_not_finite(where: str, raw: np.ndarray, ch_names: Sequence[str] | None) -> None:
    bad, names = ~np.isfinite(raw), ch_names or ()
    numbers = np.flatnonzero(bad.any(axis=1))
    named = [names[number] if number < len(names) else str(number + 1) for number in numbers.tolist()]
    raise UserError(
        f"{where}: the signal has values that are not finite, {bad.sum()} on {listed(named)}; repair the row or remove "
        "it"
    )


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
    """Yield the columns of a few examples at a time, as `write_split` expects them."""
    start = 0
    for some in _chunks(rows):
        if isinstance(fitted, Picture):
            read = [read_image(raw, where, channels=fitted.channels, size=fitted.size) for where, raw in some]
            tensors = np.stack(read)
        else:
            tensors = fitted.to_tensor(torch.from_numpy(np.stack([raw for _, raw in some]))).numpy()
        end = start + len(some)
        rows_here = {name: each[start:end] for name, each in values.items()}
        yield {column: tensors.astype(np.float16), SOURCES: [where for where, _ in some], **rows_here}
        start = end


def _chunks(rows: Rows) -> Iterator[list[tuple[str, Any]]]:
    """Yield the tensors of a split, a few at a time."""
    tensors = rows.tensors()
    while some := list(islice(tensors, _AT_ONCE)):
        yield some
