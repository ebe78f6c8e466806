"""Count the rows of each split, in one pass over its files, and check what can be seen in one file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.balancing import ranges
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.flat import NAMING, Named, name_of
from signal_diffusion.data.verification.listed_files import first_line
from signal_diffusion.data.verification.tensors import FLAT, violations

__all__ = ["WINDOW", "SplitCounts", "count_file"]

WINDOW = ("dataset", "recording", "window")
"""The columns that name a window."""
_KINDS: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "categorical": (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer),
    "numeric": (pa.types.is_floating, pa.types.is_integer),
    "text": (pa.types.is_string, pa.types.is_large_string),
    "index": (pa.types.is_integer,),
}


@dataclass(kw_only=True)
class SplitCounts:
    """Counts from one pass over a split."""

    examples: int = 0
    values: dict[str, Counter[Any]] = field(default_factory=dict)
    """Categorical column or `subject` → value (None for unknown) → number of examples."""
    windows: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """(dataset, recording, window), as far as these columns exist → its electrodes, one bit each."""
    repeated: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    """(dataset, recording, window, electrode) → number of repetitions."""
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    """Numeric column → number of known values, their sum, their sum of squares."""
    ranges: dict[str, list[float]] = field(default_factory=dict)
    """Numeric column → smallest and largest known value."""
    digests: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """File → `example_digests` of its rows, 8 bytes each."""
    absent: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """Absent electrodes, in the card's order → number of examples; empty if no recording lacks any."""


def count_file(root: Path, path: Path, card: DatasetCard, found: SplitCounts, complaints: dict[str, list[str]]) -> None:
    """Count the rows of a file, and check its tensors."""
    where = path.relative_to(root).as_posix()
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    complaints["columns"] += _columns(where, schema, card)
    usable = [name for name, column in card.columns.items() if _fits(schema, name, column["kind"])]
    tensor = card.representation["column"]
    has_tensors = tensor in schema.names
    broken: dict[str, Named] = {}
    electrodes = card.columns.get("electrode", {}).get("names", ())
    unknown: dict[str, None] = {}  # used as an ordered set
    for group in range(file.metadata.num_row_groups):
        try:
            table = file.read_row_group(group, columns=[*usable, *([tensor] if has_tensors else [])])
        except (pa.ArrowException, OSError) as error:
            complaints["files"].append(f"{where}: row group {group} cannot be read ({first_line(error)})")
            continue
        found.examples += len(table)
        if has_tensors:
            first = found.examples - len(table)
            digests = found.digests.setdefault(where, [])
            for what, row, electrode in violations(table.column(tensor), card, digests, found.absent):
                columns = {name: table.column(name)[row : row + 1].to_pylist() for name in usable if name in NAMING}
                name = name_of(columns, 0, electrodes, electrode) or f"row {first + row}"
                broken.setdefault(what, Named()).add(name)
        unknown |= dict.fromkeys(_count(table.select(usable), card, found))
    complaints["values"] += [f"{where}: {each}" for each in unknown]
    for what, named in sorted(broken.items()):
        if what == FLAT:
            complaints["flat"].append(f"{where}: {FLAT}, but {named.count} are flat: {named}")
        else:
            complaints["tensors"].append(f"{where}: tensors: {what}, but {named.count} are not: {named}")


def _fits(schema: pa.Schema, name: str, kind: str) -> bool:
    return name in schema.names and any(fits(schema.field(name).type) for fits in _KINDS[kind])


def _columns(where: str, schema: pa.Schema, card: DatasetCard) -> Iterator[str]:
    stated = [card.representation["column"], *card.columns]
    if set(schema.names) != set(stated):
        difference = ", ".join(sorted(set(schema.names) ^ set(stated)))
        yield f"{where}: the card says columns {', '.join(stated)}; missing or unexpected: {difference}"
    for name, column in card.columns.items():
        if name in schema.names and not _fits(schema, name, column["kind"]):
            yield f"{where}: the card says {name} is {column['kind']}, found {schema.field(name).type}"


def _count(table: pa.Table, card: DatasetCard, found: SplitCounts) -> list[str]:
    """Add a table's rows to the counts; returns complaints about its categories."""
    columns: dict[str, list[Any]] = {}
    wrong = []
    for name in table.column_names:
        column = card.columns[name]
        values = table.column(name).to_pylist() if column["kind"] != "numeric" or name in WINDOW else []
        if column["kind"] == "categorical":
            names = dict(enumerate(column["names"])) | {each: each for each in column["names"]} | {None: None, -1: None}
            unknown = sorted({str(value) for value in values if value not in names})
            wrong += [f"{name}: the card says {', '.join(column['names'])}; found {value}" for value in unknown]
            values = [names[value] if value in names else str(value) for value in values]
        if column["kind"] == "numeric":
            numbers = table.column(name).cast(pa.float64()).to_numpy()
            numbers = numbers[np.isfinite(numbers)]
            sums = np.array([len(numbers), numbers.sum(), np.square(numbers).sum()])
            found.sums[name] = found.sums.get(name, np.zeros(3)) + sums
            found.ranges |= ranges({name: [*found.ranges.get(name, ()), *numbers.tolist()]})
        elif column["kind"] == "categorical" or name == "subject":
            found.values.setdefault(name, Counter()).update(values)
        columns[name] = values
    if {"recording", "window"} <= columns.keys():
        keys = zip(*(columns[name] for name in WINDOW if name in columns), strict=True)
        for key, electrode in zip(keys, columns.get("electrode", [None] * len(table)), strict=True):
            bit = 1 << (card.channels.index(electrode) if electrode in card.channels else 0)
            electrodes = found.windows.get(key, 0)
            if electrodes & bit:
                found.repeated[(*key, electrode) if "electrode" in columns else key] += 1
            found.windows[key] = electrodes | bit
    return wrong
