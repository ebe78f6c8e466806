"""Rows of Parquet files."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.foreign.parquet_cells import image_or_signal
from signal_diffusion.data.foreign.rows import Rows, text_or_none
from signal_diffusion.data.foreign.signal_metadata import SIGNAL_METADATA
from signal_diffusion.errors import UserError
from signal_diffusion.untrusted import parse_json

__all__ = ["parquet_rows"]

_READ_AT_ONCE = 32  # rows


def parquet_rows(files: Sequence[Path], column: str) -> Rows:
    """Open the Parquet files of a split with tensors in `column`; raises `UserError` if one cannot be read."""
    columns: dict[str, list[Any]] = {}
    names: dict[str, Sequence[str]] = {}
    about: dict[Path, dict[str, Any]] = {}
    starts: list[int] = []  # number of the first row of each file
    count = 0
    for path in files:
        with _opened(path) as file:
            schema = file.schema_arrow
            if column not in schema.names:
                raise UserError(
                    f"{path}: no column {column!r}, only {', '.join(schema.names)}; name it in [data.columns]"
                )
            if twice := [name for name in schema.names if schema.names.count(name) > 1]:
                raise UserError(f"{path}: two columns are named {twice[0]!r}; rename one")
            entries = {key: _json(schema, key) for key in SIGNAL_METADATA}
            about[path] = {key: value for key, value in entries.items() if value is not None}
            labels = _class_labels(schema)
            names |= labels
            scalar = [entry.name for entry in schema if entry.name != column and _is_scalar(entry.type)]
            read = file.read(columns=scalar)
        for name in dict.fromkeys([*columns, *scalar]):
            values = (
                [_plain(value, labels.get(name)) for value in read.column(name).to_pylist()] if name in scalar else []
            )
            columns.setdefault(name, [None] * count).extend(values or [None] * file.metadata.num_rows)
        starts.append(count)
        count += file.metadata.num_rows
    if not count:
        raise UserError(f"{files[0]}: no rows; the split is empty")

    def place(row: int) -> str:
        number = bisect_right(starts, row) - 1
        return f"row {row - starts[number]} of {files[number].name}"

    return Rows(
        tensors=lambda: _parquet_tensors(files, column),
        count=count,
        columns=columns,
        names=names,
        place=place,
        about=about,
    )


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # buffering would read the whole file ahead
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({error}); repair it or remove it") from None


def _parquet_tensors(files: Sequence[Path], column: str) -> Iterator[tuple[str, Any]]:
    for path in files:
        number = 0
        with _opened(path) as file:
            try:
                for batch in file.iter_batches(batch_size=_READ_AT_ONCE, columns=[column]):
                    for value in batch.column(0):
                        where = f"{path}: row {number}"
                        yield where, image_or_signal(value, where)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{path}: cannot be read as Parquet ({error}); repair it or remove it") from None


def _is_scalar(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
    )
    return any(test(kind) for test in tests)


def _plain(value: Any, names: Sequence[str] | None) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None  # Hugging Face uses -1 for unknown
    return text_or_none(value) if isinstance(value, str) else value


def _class_labels(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Column → category names of Hugging Face's integer codes."""
    found: Any = _json(schema, "huggingface")
    for key in ("info", "features"):
        found = found.get(key) if isinstance(found, dict) else None
    features = found if isinstance(found, dict) else {}
    return {name: entry["names"] for name, entry in features.items() if isinstance(entry, dict) and "names" in entry}


def _json(schema: pa.Schema, key: str) -> Any:
    """Read an entry of a file's metadata (as `export` and Hugging Face write them); text if it is not JSON."""
    text = (schema.metadata or {}).get(key.encode(), b"null").decode(errors="replace")
    try:
        return parse_json(text, object)
    except ValueError:
        return text
