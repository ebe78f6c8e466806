"""The rows of datasets of others: tensors a few at a time, and all other columns described as a card describes them."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.representations.pictures import RawPicture
from signal_diffusion.errors import UserError

__all__ = ["EXTENSIONS", "METADATA", "Rows", "described_columns", "folder_rows", "parquet_rows"]

logger = logging.getLogger(__name__)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
METADATA = "metadata.csv"

_READ_AT_ONCE = 32
_MOST_NAMES = 100  # of a column of text, to be conditioned on as categories
_CATEGORICAL = {"label", "gender", "health", "electrode", "dataset"}
_TEXT = {"caption", "subject", "recording"}
_MISSING = {"", "n/a"}  # the latter is BIDS's


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One split of a dataset that is not ours."""

    tensors: Callable[[], Iterator[tuple[str, Any]]]
    """Reads them, anew with each call: where each one is, and a `RawPicture`, or µV (electrodes, samples) float32."""
    count: int
    columns: dict[str, list[Any]]
    """All others, None being unknown."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The order of categories, where the dataset has one."""
    ch_names: tuple[str, ...] = ()
    """Electrodes, where the dataset names them."""
    sampling_rate: float | None = None
    """Hz, where the dataset says it."""


# Folders --------------------------------------------------------------------------------------------------------------


def folder_rows(folder: Path, label: str) -> Rows:
    """List the pictures of a folder, with `metadata.csv` in it or beside it, or with subfolders named after classes.

    Raises `UserError` where there are none, or the table does not go with them.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    )
    tables = [path for path in (folder / METADATA, folder.parent / METADATA) if path.is_file()]
    columns: dict[str, list[Any]] = {}
    if tables:
        paths, columns = _listed(tables[0], folder)
        if left_out := len(set(found) - set(paths)):
            logger.warning("%s: %d pictures are not in %s, and left out", folder, left_out, tables[0].name)
    else:
        paths = found
        classes = [path.relative_to(folder).parts[0] if path.parent != folder else None for path in paths]
        if any(classes):
            columns = {label: classes}
    if not paths:
        raise UserError(f"{folder}: no pictures here; expected files such as .png or .jpg")

    def tensors() -> Iterator[tuple[str, RawPicture]]:
        return ((str(path), path) for path in paths)

    return Rows(tensors=tensors, count=len(paths), columns=columns)


def _listed(table: Path, folder: Path) -> tuple[list[Path], dict[str, list[Any]]]:
    """The pictures of `folder` that a table lists, and its other columns."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        try:
            reader = csv.DictReader(file)
            rows = list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{table}: not a table in CSV and UTF-8 ({error})") from None
    names = [name for name in reader.fieldnames or () if name]
    if "file_name" not in names:
        raise UserError(f"{table}: no column file_name, only {', '.join(names) or 'nothing'}; it names the pictures")
    paths, kept = [], []
    for number, row in enumerate(rows, start=1):
        path = table.parent / (row["file_name"] or "")
        if table.parent != folder and not path.is_relative_to(folder):  # of another split
            continue
        if not path.is_file():
            raise UserError(f"{table}: row {number} names {row['file_name']!r}, which is not there; remove the row")
        paths.append(path)
        kept.append(row)
    return paths, {name: [_text(row[name]) for row in kept] for name in names if name != "file_name"}


def _text(value: str | None) -> str | None:
    return None if value is None or value.strip().lower() in _MISSING else value.strip()


# Parquet --------------------------------------------------------------------------------------------------------------


def parquet_rows(files: Sequence[Path], column: str) -> Rows:
    """Open the Parquet files of a split, whose tensors are in `column`; raises `UserError` where they cannot be."""
    columns: dict[str, list[Any]] = {}
    names: dict[str, Sequence[str]] = {}
    about: dict[str, Any] = {}
    count = 0
    for path in files:
        with _opened(path) as file:
            schema = file.schema_arrow
            if column not in schema.names:
                raise UserError(
                    f"{path}: no column {column!r}, only {', '.join(schema.names)}; name it in [data.columns]"
                )
            about = about or {key: _json(schema, key) for key in ("ch_names", "sampling_rate")}
            labels = _class_labels(schema)
            names |= labels
            scalar = [entry.name for entry in schema if entry.name != column and _is_scalar(entry.type)]
            read = file.read(columns=scalar)
        for name in dict.fromkeys([*columns, *scalar]):
            mine = (
                [_plain(value, labels.get(name)) for value in read.column(name).to_pylist()] if name in scalar else []
            )
            columns.setdefault(name, [None] * count).extend(mine or [None] * file.metadata.num_rows)
        count += file.metadata.num_rows
    if not count:
        raise UserError(f"{files[0]}: no rows")
    return Rows(
        tensors=lambda: _parquet_tensors(files, column),
        count=count,
        columns=columns,
        names=names,
        ch_names=tuple(map(str, about["ch_names"] or ())),
        sampling_rate=about["sampling_rate"],
    )


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False)  # it would read the whole file ahead
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
                        yield where, _raw(value, where, path.parent)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{path}: cannot be read as Parquet ({error}); repair it or remove it") from None


def _raw(value: Any, where: str, folder: Path) -> RawPicture:
    """A cell: an encoded picture (bytes, or Hugging Face's struct of bytes and path), or nested lists of numbers."""
    value = value.value if isinstance(value, pa.ExtensionScalar) else value
    if pa.types.is_struct(value.type):
        content = value.as_py() or {}
        if content.get("bytes") is not None:
            return content["bytes"]
        if content.get("path"):
            return folder / content["path"]
    elif value.is_valid and _is_list(value.type):
        return _nested(value.values, where)
    elif value.is_valid and (pa.types.is_binary(value.type) or pa.types.is_large_binary(value.type)):
        return value.as_py()
    raise UserError(
        f"{where}: {'nothing' if not value.is_valid else value.type} where a picture or a signal is expected; leave "
        "the row out"
    )


def _nested(values: pa.Array, where: str) -> np.ndarray:
    """Lists of lists as one array of float32, without a Python object per value."""
    shape = [len(values)]
    while isinstance(values, pa.ExtensionArray) or _is_list(values.type):
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
            continue
        inner = values.flatten()
        if len(values) == 0 or len(inner) % len(values) or len(set(values.value_lengths().to_pylist())) > 1:
            raise UserError(f"{where}: lists of different lengths; expected a rectangle")
        shape.append(len(inner) // len(values))
        values = inner
    try:
        return values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(shape)
    except (TypeError, ValueError):
        raise UserError(f"{where}: lists of {values.type}; expected numbers") from None


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


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
    if names is not None and value is not None:
        return names[value] if 0 <= value < len(names) else None  # -1 is Hugging Face's unknown
    return _text(value) if isinstance(value, str) else value


def _class_labels(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Names of the categories that Hugging Face's integers stand for, by column."""
    features = (_json(schema, "huggingface") or {}).get("info", {}).get("features", {})
    return {name: entry["names"] for name, entry in features.items() if isinstance(entry, dict) and "names" in entry}


def _json(schema: pa.Schema, key: str) -> Any:
    """An entry of a file's own metadata, as `export` writes them, and Hugging Face."""
    try:
        return json.loads((schema.metadata or {}).get(key.encode(), b"null"))
    except ValueError:
        return None


# Columns --------------------------------------------------------------------------------------------------------------


def described_columns(
    splits: Mapping[str, Rows], columns: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[Any]]]]:
    """Say what each column is, as in a card, and what is stored of it: split → column → values.

    `columns` is our name → the dataset's. Label, gender, health and electrode are categories, the age is a number,
    captions are text; of the rest, numbers are numbers, and text of up to 100 different values is categories.
    Columns without any value are left out.
    """
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    described: dict[str, dict[str, Any]] = {}
    stored: dict[str, dict[str, list[Any]]] = {split: {} for split in splits}
    for name in dict.fromkeys(name for rows in splits.values() for name in rows.columns):
        raw = {split: rows.columns.get(name, [None] * rows.count) for split, rows in splits.items()}
        distinct = {value for values in raw.values() for value in values if value is not None}
        declared = [each for rows in splits.values() for each in rows.names.get(name, ())]
        kind = "categorical" if declared else _kind(ours_of.get(name, name), distinct)
        turned: dict[Any, Any] = {
            value: _number(value, name) if kind == "numeric" else _word(value) for value in distinct
        }
        values = {split: [turned.get(value) for value in each] for split, each in raw.items()}
        known = [value for value in values["train"] if value is not None]
        if not distinct or (kind == "numeric" and not known):
            continue
        described[name] = {"kind": kind}
        if kind == "categorical":
            described[name]["names"] = list(dict.fromkeys(declared or sorted(turned.values(), key=_natural)))
        elif kind == "numeric":
            described[name] |= {"mean": float(np.mean(known)), "std": float(np.std(known)) or 1.0}
        for split in splits:
            stored[split][name] = values[split]
    return described, stored


def _kind(name: str, values: Iterable[Any]) -> str:
    values = list(values)
    if name in _CATEGORICAL:
        return "categorical"
    if name in _TEXT:
        return "text"
    if name == "age" or all(_is_number(value) for value in values):
        return "numeric"
    return "categorical" if len(values) <= _MOST_NAMES else "text"


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except ValueError:
        return False


def _number(value: Any, column: str) -> float:
    if not _is_number(value):
        raise UserError(f"[data.columns] {column!r} has the value {value!r}; expected numbers")
    return float(value)


def _word(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)  # pandas writes integers with gaps as floats


def _natural(name: str) -> tuple[float, str]:
    """Sort numbers as numbers, before words."""
    return (float(name) if _is_number(name) else math.inf, name)
