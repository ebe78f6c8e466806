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

from signal_diffusion.data.card import MOST_NAMES
from signal_diffusion.data.representations.pictures import RawPicture
from signal_diffusion.errors import UserError
from signal_diffusion.paths import leads_nowhere

__all__ = ["METADATA", "Rows", "described_columns", "files_in", "folder_rows", "parquet_rows", "stated"]

logger = logging.getLogger(__name__)

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
METADATA = "metadata.csv"

_READ_AT_ONCE = 32
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
    about: Mapping[Path, Mapping[str, Any]] = field(default_factory=dict)
    """What each file says of its signals, unchecked: `sampling_rate`, `ch_names` and `unit`, or some of them."""


# Folders --------------------------------------------------------------------------------------------------------------


def files_in(folder: Path) -> list[Path]:
    """List all files below a folder; raises `UserError` for a picture that is a link to nothing."""
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.append(path)
        elif leads_nowhere(path) and path.suffix.lower() in EXTENSIONS:
            raise UserError(f"{path}: a link to {path.readlink()}, which is not there; repair the link or remove it")
    return files


def folder_rows(folder: Path, label: str) -> Rows:
    """List the pictures of a folder, with `metadata.csv` in it or beside it, or with subfolders named after classes.

    Raises `UserError` where there are none, or the table does not go with them.
    """
    found = [
        path
        for path in files_in(folder)
        if path.suffix.lower() in EXTENSIONS and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]
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
    names, lines = _read_table(table)
    listed: dict[Path, dict[str, str]] = {}
    for number, row in lines:
        name = row["file_name"]
        path = table.parent / name
        if ".." in Path(name).parts or not path.is_relative_to(table.parent):  # whose changes nobody would notice
            raise UserError(f"{table}: line {number} names {name!r}; expected a picture in {table.parent}")
        if table.parent != folder and not path.is_relative_to(folder):  # of another split
            continue
        if not path.is_file():
            raise UserError(f"{table}: line {number} names {name!r}, which is not there; remove the line")
        if path in listed:
            raise UserError(f"{table}: line {number} names {name!r} a second time; remove one of the lines")
        listed[path] = row
    columns = {name: [_text(row[name]) for row in listed.values()] for name in names if name != "file_name"}
    return list(listed), columns


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of a table's columns, and its rows, each with the number of the line it ends on."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header, *lines = [(reader.line_num, cells) for cells in reader if cells] or [(1, [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{table}: not a table in CSV and UTF-8 ({error})") from None
    cells = header[1]
    names = [name for name in cells if name]  # pandas' index has none
    if "file_name" not in names:
        raise UserError(f"{table}: no column file_name, only {', '.join(names) or 'nothing'}; it names the pictures")
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
    """Open the Parquet files of a split, whose tensors are in `column`; raises `UserError` where they cannot be."""
    columns: dict[str, list[Any]] = {}
    names: dict[str, Sequence[str]] = {}
    about: dict[Path, dict[str, Any]] = {}
    count = 0
    for path in files:
        with _opened(path) as file:
            schema = file.schema_arrow
            if column not in schema.names:
                raise UserError(
                    f"{path}: no column {column!r}, only {', '.join(schema.names)}; name it in [data.columns]"
                )
            if twice := [name for name in schema.names if schema.names.count(name) > 1]:
                raise UserError(f"{path}: two columns {twice[0]!r}; rename one")
            entries = {key: _json(schema, key) for key in _CHECKS}
            about[path] = {key: value for key, value in entries.items() if value is not None}
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
        about=about,
    )


def stated(splits: Iterable[Rows]) -> dict[str, Any]:
    """What all files say of their signals, or None: `sampling_rate` in Hz, `ch_names` and `unit`.

    Raises `UserError` for the first file that says something else than those before it, or what cannot be.
    """
    first: dict[str, tuple[Path, Any]] = {}
    for path, entries in ((path, entries) for rows in splits for path, entries in rows.about.items()):
        for key, value in entries.items():
            fits, expected = _CHECKS[key]
            if not fits(value):
                raise UserError(f"{path}: its metadata say {key} {value!r}; expected {expected}")
            other, there = first.setdefault(key, (path, value))
            if value != there:
                raise UserError(f"{path}: {key} {value!r}, but {other} says {there!r}; expected the same in all files")
    return {key: first[key][1] if key in first else None for key in _CHECKS}


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and _is_number(value) and value > 0


def _are_electrodes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value) and len({*value}) == len(value)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sampling_rate": (_is_rate, "a number of Hz above 0"),
    "ch_names": (_are_electrodes, "a list of different names"),
    "unit": (lambda value: value == "µV", "'µV'; convert the signals first"),
}


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
                        yield where, _raw(value, where)
                        number += 1
            except (pa.ArrowException, OSError) as error:
                raise UserError(f"{path}: cannot be read as Parquet ({error}); repair it or remove it") from None


def _raw(value: Any, where: str) -> RawPicture:
    """A cell: an encoded picture (bytes, or Hugging Face's struct of bytes and path), or nested lists of numbers."""
    value = value.value if isinstance(value, pa.ExtensionScalar) else value
    if pa.types.is_struct(value.type):
        content = value.as_py() or {}
        if content.get("bytes") is not None:
            return content["bytes"]
        if content.get("path"):
            raise UserError(f"{where}: only the path {content['path']!r}; expected the picture itself, as bytes")
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
    if names is not None and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None  # -1 is Hugging Face's unknown
    return _text(value) if isinstance(value, str) else value


def _class_labels(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Names of the categories that Hugging Face's integers stand for, by column."""
    found: Any = _json(schema, "huggingface")
    for key in ("info", "features"):
        found = found.get(key) if isinstance(found, dict) else None
    features = found if isinstance(found, dict) else {}
    return {name: entry["names"] for name, entry in features.items() if isinstance(entry, dict) and "names" in entry}


def _json(schema: pa.Schema, key: str) -> Any:
    """An entry of a file's own metadata, as `export` writes them, and Hugging Face; text where it is no JSON."""
    text = (schema.metadata or {}).get(key.encode(), b"null").decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


# Columns --------------------------------------------------------------------------------------------------------------


def described_columns(
    splits: Mapping[str, Rows], columns: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, list[Any]]]]:
    """Say what each column is, as in a card, and what is stored of it: split → column → values.

    `columns` is our name → the dataset's. Label, gender, health and electrode are categories, the age is a number,
    captions are text, and the window is an index, if it is of whole numbers; of the rest, numbers are numbers, and
    text of up to 100 different values is categories.
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
        turned = {value: _turned(value, kind, name) for value in distinct}
        values = {split: [turned.get(value) for value in each] for split, each in raw.items()}
        known = [value for value in values["train"] if value is not None]
        if not distinct or (kind == "numeric" and not known):
            continue
        described[name] = {"kind": kind}
        if kind == "categorical":
            described[name]["names"] = list(dict.fromkeys(declared or sorted(turned.values(), key=_natural)))
            _check_categories(name, values, described[name]["names"])
        elif kind == "numeric":
            described[name] |= {"mean": float(np.mean(known)), "std": float(np.std(known)) or 1.0}
        for split in splits:
            stored[split][name] = values[split]
    return described, stored


def _check_categories(column: str, values: Mapping[str, Iterable[Any]], names: Sequence[str]) -> None:
    """Raise where one split's values are not among those that another one declares."""
    for split, each in values.items():
        for value in each:
            if value is not None and value not in names:
                raise UserError(
                    f"column {column!r}: {value!r} in the split {split!r} is none of the declared {', '.join(names)}"
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
    return "categorical" if len(values) <= MOST_NAMES else "text"


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except ValueError:
        return False


def _turned(value: Any, kind: str, column: str) -> Any:
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
    """Sort numbers as numbers, before words."""
    return (float(name) if _is_number(name) else math.inf, name)
