"""Write the splits of a foreign dataset as a dataset of our format: tensors a few at a time, columns and card."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from signal_diffusion.data.balancing import marginals_of_split, ranges
from signal_diffusion.data.card import DatasetCard, write_readme
from signal_diffusion.data.foreign.columns import described_columns
from signal_diffusion.data.foreign.fitting import chunks, image_representation, signal_representation
from signal_diffusion.data.foreign.folder_rows import folder_rows
from signal_diffusion.data.foreign.options import ConversionOptions
from signal_diffusion.data.foreign.parquet_rows import parquet_rows
from signal_diffusion.data.foreign.rows import Rows
from signal_diffusion.data.foreign.signal_metadata import signal_metadata
from signal_diffusion.data.foreign.split_locations import SplitLocation
from signal_diffusion.data.representations.pictures import Picture, read_image
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.data.writing_splits import SOURCES, write_split
from signal_diffusion.errors import UserError

__all__ = ["write_converted"]

logger = logging.getLogger(__name__)


def write_converted(
    root: Path, places: Mapping[str, SplitLocation], wanted: ConversionOptions, name: str, aliases: Mapping[str, str]
) -> None:
    """Write a whole dataset to the folder `root`; see `convert`."""
    kind = TimeSeries if wanted.representation == TimeSeries.name else Picture
    column = wanted.columns[kind.column]
    splits = {split: _rows(place, column, wanted) for split, place in places.items()}
    described, values, read = described_columns(splits, wanted.columns)
    for note in read:
        logger.warning("%s: %s", name, note)
    about = signal_metadata(splits.values()) if kind is TimeSeries else {}
    fitted, notes = (
        signal_representation(splits, wanted, about["sampling_rate"], about["ch_names"])
        if about
        else image_representation(splits, wanted)
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
        "ranges": ranges({name: values[name] for name, column in described.items() if column["kind"] == "numeric"}),
    }


def _batches(
    rows: Rows, values: Mapping[str, list[Any]], fitted: Picture | TimeSeries, column: str
) -> Iterator[dict[str, Any]]:
    """Yield the columns of a few examples at a time, as `write_split` expects them."""
    start = 0
    for some in chunks(rows):
        if isinstance(fitted, Picture):
            read = [read_image(raw, where, channels=fitted.channels, size=fitted.size) for where, raw in some]
            tensors = np.stack(read)
        else:
            tensors = fitted.to_tensor(torch.from_numpy(np.stack([raw for _, raw in some]))).numpy()
        end = start + len(some)
        rows_here = {name: each[start:end] for name, each in values.items()}
        yield {column: tensors.astype(np.float16), SOURCES: [where for where, _ in some], **rows_here}
        start = end
