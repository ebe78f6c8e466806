"""Rows of foreign datasets: tensors a few at a time, and all other columns as described in a card."""

from __future__ import annotations

import csv
import json
import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.ages_and_sexes import SEX_COLUMNS, read_ages, read_sexes
from signal_diffusion.data.card import MAX_CATEGORIES
from signal_diffusion.data.representations.pictures import RawImage
from signal_diffusion.errors import UserError
from signal_diffusion.paths import is_broken_link

__all__ = ["METADATA", "Rows", "described_columns", "files_in", "folder_rows", "parquet_rows", "signal_metadata"]

logger = logging.getLogger(__name__)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
METADATA = "metadata.csv"

_READ_AT_ONCE = 32  # rows
_CATEGORICAL = {"label", "gender", "health", "electrode", "dataset"}
_TEXT = {"caption", "subject", "recording"}
_MISSING = {"", "n/a"}  # n/a as in BIDS


@dataclass(frozen=True, kw_only=True)
class Rows:
    """One split of a foreign dataset."""

    tensors: Callable[[], Iterator[tuple[str, Any]]]
    """Iterates over all rows: location (for errors), and a `RawImage` or µV (electrodes, samples) float32."""
    count: int
    columns: dict[str, list[Any]]
    """All other columns; None = unknown."""
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Column → its categories in order, if the dataset declares them."""
    place: Callable[[int], str] = "row {}".format
    """Number of a row → where it is, for messages."""
    about: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    """File → its metadata about signals, not validated: any of `sampling_rate`, `ch_names` and `unit`."""


# Folders --------------------------------------------------------------------------------------------------------------


def files_in(folder: Path) -> list[Path]:
    """List all files below a folder; raises `UserError` for an image that is a broken link."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.append(path)
        elif is_broken_link(path) and path.suffix.lower() in EXTENSIONS:
            raise UserError(f"{path}: broken link to {path.readlink()}; repair the link or remove it")
    return files


def folder_rows(folder: Path, label: str) -> Rows:
    """List the images of a folder, with `metadata.csv` in it or next to it, or with subfolders named after labels.

    Raises `UserError` if there are no images, or the table does not match them.
    """
    found = [
        path
        for path in files_in(folder)
        if path.suffix.lower() in EXTENSIONS and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
    tables = [path for path in (folder / METADATA, folder.parent / METADATA) if path.is_file()]
    columns: dict[str, list[Any]] = {}
    lines: list[int] = []
    if tables:
        paths, columns, lines = _listed(tables[0], folder)
        if left_out := len(set(found) - set(paths)):
            logger.warning("%s: ignored %d images that are not listed in %s", folder, left_out, tables[0].name)
    else:
        paths = found
        labels = [path.relative_to(folder).parts[0] if path.parent != folder else None for path in paths]
        if any(labels):
            columns = {label: labels}
    if not paths:
        raise UserError(f"{folder}: no images found; expected files such as .png or .jpg")

    def tensors() -> Iterator[tuple[str, RawImage]]:
        return ((str(path), path) for path in paths)

    def place(row: int) -> str:
        return f"line {lines[row]} of {tables[0].parent.name}/{tables[0].name}"

    return Rows(tensors=tensors, count=len(paths), columns=columns, place=place)


def _listed(table: Path, folder: Path) -> tuple[list[Path], dict[str, list[Any]], list[int]]:
    """Images of `folder` that a table lists, the other columns of the table, and the lines."""
    names, lines = _read_table(table)
    listed: dict[Path, dict[str, str]] = {}
    numbers = []
    for number, row in lines:
        name = row["file_name"]
        path = table.parent / name
        if ".." in Path(name).parts or not path.is_relative_to(
            table.parent
        ):  # changes there would not invalidate the cache
            raise UserError(f"{table}: line {number} names {name!r}; expected an image in {table.parent}")
        if table.parent != folder and not path.is_relative_to(folder):  # belongs to another split
            continue
        if not path.is_file():
            raise UserError(f"{table}: line {number} names {name!r}, which does not exist; remove the line")
        if path in listed:
            raise UserError(f"{table}: line {number} names {name!r} a second time; remove one of the lines")
        listed[path] = row
        numbers.append(number)
    columns = {name: [_text(row[name]) for row in listed.values()] for name in names if name != "file_name"}
    return list(listed), columns, numbers


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Column names of a table, and its rows, each with its (last) line number."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header, *lines = [(reader.line_num, cells) for cells in reader if cells] or [(1, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{table}: not a CSV table in UTF-8 ({error}); convert it") from None
    cells = header[1]
    names = [name for name in cells if name]  # the index that pandas writes has no name
    if "file_name" not in names:
        raise UserError(
            f"{table}: no column file_name (names of the images), only {', '.join(names) or 'nothing'}; add it"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{table}: line {header[0]} has two columns {twice[0]!r}; rename one")
    for number, row in lines:
        if len(row) != len(cells):
            raise UserError(f"{table}: line {number} has {len(row)} cells; expected {len(cells)}, as in the first line")
    return names, [(number, dict(zip(cells, row, strict=True))) for number, row in lines]


def _text(value: str | None) -> str | None:
    return None if value is None or value.strip().lower() in _MISSING else value.strip()


# Parquet --------------------------------------------------------------------------------------------------------------


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
            entries = {key: _json(schema, key) for key in _CHECKS}
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


def signal_metadata(splits: Iterable[Rows]) -> dict[str, Any]:
    """Merge the metadata of all files: `sampling_rate` in Hz, `ch_names` and `unit`, None if not stated.

    Raises `UserError` for the first file with an invalid value, or a value that differs from a previous file.
    """
    first: dict[str, tuple[Path, Any]] = {}
    for path, entries in ((path, entries) for rows in splits for path, entries in rows.about.items()):
        for key, value in entries.items():
            fits, expected = _CHECKS[key]
            if not fits(value):
                raise UserError(f"{path}: its metadata state {key} {value!r}; expected {expected}")
            other, previous = first.setdefault(key, (path, value))
            if value != previous:
                raise UserError(
                    f"{path}: {key} {value!r}, but {other} states {previous!r}; expected the same in all files"
                )
    return {key: first[key][1] if key in first else None for key in _CHECKS}


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and _is_number(value) and value > 0


def _are_electrodes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len({*value}) == len(value)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sampling_rate": (_is_rate, "a number above 0, in Hz"),
    "ch_names": (_are_electrodes, "a list of unique names"),
    "unit": (lambda value: value == "µV", "'µV'; convert the signals first"),
}


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
                        yield where, _raw(value, where)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{path}: cannot be read as Parquet ({error}); repair it or remove it") from None


def _raw(value: Any, where: str) -> RawImage:
    """Read a cell: an encoded image (bytes, or Hugging Face's struct of bytes and path), or nested lists of numbers."""
    value = value.value if isinstance(value, pa.ExtensionScalar) else value
    if pa.types.is_struct(value.type):
        content = value.as_py() or {}
        if content.get("bytes") is not None:
            return content["bytes"]
        if content.get("path"):
            raise UserError(f"{where}: only the path {content['path']!r}; expected the image itself, as bytes")
    elif value.is_valid and _is_list(value.type):
        return _nested(value.values, where)
    elif value.is_valid and (pa.types.is_binary(value.type) or pa.types.is_large_binary(value.type)):
        return value.as_py()
    raise UserError(
        f"{where}: expected an image or a signal, found {value.type if value.is_valid else 'nothing'}; remove the row"
    )


def _nested(values: pa.Array, where: str) -> np.ndarray:
    """Convert nested lists to one float32 array, without a Python object per value."""
    shape = [len(values)]
    while isinstance(values, pa.ExtensionArray) or _is_list(values.type):
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
            continue
        inner = values.flatten()
        if len(values) == 0 or len(inner) % len(values) or len(set(values.value_lengths().to_pylist())) > 1:
            raise UserError(f"{where}: lists have different lengths; expected the same length in all rows")
        shape.append(len(inner) // len(values))
        values = inner
    try:
        return values.to_numpy(zero_copy_only=False).astype(np.float32).reshape(shape)
    except (TypeError, ValueError):
        raise UserError(f"{where}: expected lists of numbers, found {values.type}") from None


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
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None  # Hugging Face uses -1 for unknown
    return _text(value) if isinstance(value, str) else value


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
        return json.loads(text)
    except ValueError:
        return text


# Columns --------------------------------------------------------------------------------------------------------------


def described_columns(
    splits: Mapping[str, Rows], columns: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[Any]]], list[str]]:
    """Describe each column as in a card, and convert its values: split → column → values; and notes on them.

    `columns` is our name → the dataset's. Label, gender, health and electrode are categorical, age is numeric,
    captions are text, and the window is an index if all values are whole numbers. Other columns are numeric if all
    values are numbers, categorical with up to 100 distinct texts, and text otherwise. Empty columns are left out.
    """
    ours_of = {theirs: ours for ours, theirs in columns.items()}
    described: dict[str, dict[str, Any]] = {}
    stored: dict[str, dict[str, list[Any]]] = {split: {} for split in splits}
    notes: list[str] = []
    for name in dict.fromkeys(name for rows in splits.values() for name in rows.columns):
        raw = {split: rows.columns.get(name, [None] * rows.count) for split, rows in splits.items()}
        distinct = {value for values in raw.values() for value in values if value is not None}
        declared = [each for rows in splits.values() for each in rows.names.get(name, ())]
        ours = "gender" if name.lower() in SEX_COLUMNS else ours_of.get(name, name)
        kind = "categorical" if declared else _kind(ours, distinct)
        if ours == "age" and kind == "numeric":
            values, found = _ages(name, raw, splits)
            notes += found
        else:
            converted: dict[Any, Any] = {value: _convert(value, kind, name) for value in distinct}
            if ours == "gender":
                words = [converted.get(value) for each in raw.values() for value in each]
                sexes, found = read_sexes([*words, *declared], column=name)
                notes += found
                converted = {value: sexes[word] for value, word in converted.items()}
                declared = [each for word in declared if (each := sexes[word]) is not None]
            values = {split: [converted.get(value) for value in each] for split, each in raw.items()}
        known = [value for value in values["train"] if value is not None]
        if distinct and kind == "numeric" and not known:
            notes.append(f"{name}: left out, because no row of the training split has a number")
        if not distinct or (kind == "numeric" and not known):
            continue
        described[name] = {"kind": kind}
        if kind == "categorical":
            described[name]["names"] = list(
                dict.fromkeys(declared or sorted({*converted.values()} - {None}, key=_natural))
            )
            _check_categories(name, values, described[name]["names"])
        elif kind == "numeric":
            described[name] |= {"mean": float(np.mean(known)), "std": float(np.std(known)) or 1.0}
        for split in splits:
            stored[split][name] = values[split]
    return described, stored, notes


def _ages(
    column: str, raw: Mapping[str, Sequence[Any]], splits: Mapping[str, Rows]
) -> tuple[dict[str, list[float | None]], list[str]]:
    cells = [(splits[split].place(row), value) for split, values in raw.items() for row, value in enumerate(values)]
    remedy = "; correct them, or leave the cells empty"
    ages, notes = read_ages(cells, table="[data.columns]", column=column, remedy=remedy)
    rest = iter(ages)
    return {split: [next(rest) for _ in values] for split, values in raw.items()}, notes


def _check_categories(column: str, values: Mapping[str, Iterable[Any]], names: Sequence[str]) -> None:
    """Raise a `UserError` if a value of one split is not among the categories that another one declares."""
    for split, each in values.items():
        for value in each:
            if value is not None and value not in names:
                raise UserError(
                    f"column {column!r}: {value!r} in the split {split!r} is not one of the declared {', '.join(names)}"
                )


def _kind(name: str, values: Iterable[Any]) -> str:
    values = list(values)
    if name in _CATEGORICAL:
        return "categorical"
    if name in _TEXT:
        return "text"
    if name == "window" and all(_is_index(value) for value in values):
        return "index"
    if name == "age" or all(_is_number(value) for value in values):
        return "numeric"
    return "categorical" if len(values) <= MAX_CATEGORIES else "text"


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except ValueError:
        return False


def _convert(value: Any, kind: str, column: str) -> Any:
    if kind == "index":
        return int(float(value))
    return _number(value, column) if kind == "numeric" else _word(value)


def _is_index(value: Any) -> bool:
    return _is_number(value) and float(value).is_integer() and 0 <= float(value) < 2**31  # stored as int32


def _number(value: Any, column: str) -> float:
    if not _is_number(value):
        raise UserError(f"[data.columns] {column!r} has the value {value!r}; expected numbers")
    return float(value)


def _word(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)  # pandas writes integers with gaps as floats


def _natural(name: str) -> tuple[float, str]:
    """Sort key: numbers in numeric order, before words."""
    return (float(name) if _is_number(name) else math.inf, name)
