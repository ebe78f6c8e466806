"""Write the Parquet files of a split; `dataset` reads them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.flat import Named, find_flat, name_of
from signal_diffusion.data.integrity import sha256_of
from signal_diffusion.data.montages import are_complete
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import datasets

__all__ = ["SOURCES", "nested", "write_split"]

logger = logging.getLogger(__name__)

SOURCES = "(sources)"
"""Key of a batch for `write_split`: where each example is from, for messages; not a column."""
_BYTES_PER_GROUP = 2**23  # bytes of tensors in a row group: a writer's buffer, and the least that is read at once
_GROUPS_PER_FILE = 32


def write_split(root: Path, split: str, card: DatasetCard, batches: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Write batches, each a dictionary of columns, as `root/split/NNNNN.parquet`; returns path → SHA-256.

    The tensor's column is an array (n, C, H, W), the others are sequences of n. Batches are regrouped into row groups
    of a fixed size, so memory is bounded and the bytes do not depend on the sizes of the batches.

    A warning counts and names flat examples, and a `UserError` names the first that is not finite.
    """
    (root / split).mkdir(parents=True)
    batches = _inspected(batches, split, card)
    features = _features(card)
    schema = features.arrow_schema
    tables = (_table(batch, card, features, schema) for batch in batches)
    rows = max(1, _BYTES_PER_GROUP // (2 * math.prod(card.shape)))
    writer: pq.ParquetWriter | None = None
    files: list[Path] = []
    for number, group in enumerate(_regrouped(tables, rows)):
        if number % _GROUPS_PER_FILE == 0:
            if writer is not None:
                writer.close()
            files.append(root / split / f"{len(files):05d}.parquet")
            # float16 noise does not compress: plain pages are as small, and read faster. Statistics (the extremes of
            # each page) would take half of the writing time.
            texts = [entry.name for entry in schema if pa.types.is_string(entry.type)]
            writer = pq.ParquetWriter(
                files[-1], schema, compression="none", use_dictionary=texts, write_statistics=False
            )
        assert writer is not None
        writer.write_table(group, row_group_size=rows)
    if writer is not None:
        writer.close()
    return {path.relative_to(root).as_posix(): sha256_of(path) for path in files}


def _inspected(batches: Iterable[dict[str, Any]], split: str, card: DatasetCard) -> Iterator[dict[str, Any]]:
    flat, start = Named(), 0
    for batch in batches:
        tensors = np.asarray(batch[card.representation["column"]])

        def name(row: int, electrode: str = "", batch: dict[str, Any] = batch, start: int = start) -> str:
            source = batch[SOURCES][row] if SOURCES in batch else ""
            return ": ".join(filter(None, [source, name_of(batch, row, electrode=electrode)])) or f"row {start + row}"

        finite = are_complete(tensors, card)
        if not finite.all():
            raise UserError(f"{split}: {name(int(finite.argmin()))}: has values that are not finite; leave it out")
        for row, electrode in find_flat(tensors, card):
            flat.add(name(row, electrode))
        start += len(tensors)
        yield batch
    if flat.count:
        # a spectrogram that is nowhere within its limits is one colour
        limits = "db_min" in card.representation["parameters"]
        logger.warning(
            "%s: %d examples or electrodes are flat, without a signal%s (--reject-flat leaves out flat windows): %s",
            split, flat.count, " within the limits of decibels" if limits else "", flat,
        )  # fmt: skip


def _regrouped(tables: Iterable[pa.Table], rows: int) -> Iterable[pa.Table]:
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += len(table)
        if count >= rows:
            joined = pa.concat_tables(waiting)
            whole = count - count % rows
            for start in range(0, whole, rows):
                yield joined.slice(start, rows)
            waiting, count = [joined.slice(whole)], count - whole
    if count:
        yield pa.concat_tables(waiting)


def _features(card: DatasetCard) -> datasets.Features:
    import datasets

    tensor = datasets.Array3D(shape=tuple(card.shape), dtype="float16")
    features: dict[str, Any] = {card.representation["column"]: tensor}
    for name, column in card.columns.items():
        # Label and electrode are stored as codes, as models use them (missing = null); other categories as words.
        if name in ("label", "electrode"):
            features[name] = datasets.ClassLabel(names=column["names"])
        else:
            dtype = {"numeric": "float32", "index": "int32"}.get(column["kind"], "string")
            features[name] = datasets.Value(dtype)
    return datasets.Features(features)


def _table(batch: dict[str, Any], card: DatasetCard, features: datasets.Features, schema: pa.Schema) -> pa.Table:
    tensor_column = card.representation["column"]
    tensors = nested(np.asarray(batch[tensor_column], np.float16))
    arrays = {tensor_column: pa.ExtensionArray.from_storage(features[tensor_column](), tensors)}
    for name, column in card.columns.items():
        values = batch[name]
        if name in ("label", "electrode"):
            code = {value: index for index, value in enumerate(column["names"])}
            values = [None if value is None else code[value] for value in values]
        arrays[name] = pa.array(values, type=schema.field(name).type)
    return pa.table(arrays, schema=schema)


def nested(values: np.ndarray) -> pa.ListArray:
    """Convert an array (n, …) to n nested lists, without a Python object per value; `as_array` is the inverse."""
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.ListArray.from_arrays(np.arange(0, len(array) + 1, size, dtype=np.int32), array)
    return array
