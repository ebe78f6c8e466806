"""The dataset on disk: Parquet files per split, a card that describes them, and a README for the Hub.

    DIR/README.md              front matter for the Hub, and a summary
    DIR/signal_dataset.json    the card: how tensors were made from microvolts, what columns mean, who is in which split
    DIR/splits.json            who is in which split, for other datasets to reuse
    DIR/train/00000.parquet …  also validation/ and test/

Plain `datasets.load_dataset(DIR)` reads it too. The bytes depend only on the recordings and the arguments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa

from signal_diffusion.data.arrow_copy import arrow_copy
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.integrity import check_rows, digest_of, leads_out
from signal_diffusion.errors import UserError

if TYPE_CHECKING:
    import datasets

__all__ = [
    "MappedTensors",
    "as_array",
    "file_digests",
    "open_split",
    "split_files",
    "split_name",
]


def open_split(root: Path, split: str, card: DatasetCard | None = None, *, cache_dir: str = "") -> datasets.Dataset:
    """Open a split, memory-mapped, without the network.

    The first call converts Parquet to Arrow in the cache (`paths.cache_folder`). Raises a `UserError` if the dataset,
    the split or one of its files is missing or damaged.
    """
    import datasets

    files = split_files(root, split, card)
    return datasets.Dataset.from_file(str(arrow_copy(files, cache_dir)))


def split_name(card: DatasetCard, split: str, root: Path) -> str:
    """Resolve a split's name: also accepts "val" for "validation", and the folder that a split was converted from."""
    aliases = {"val": "validation"} | card.preprocessing.get("splits", {})
    name = split if split in card.splits else aliases.get(split, split)
    if name not in card.splits:
        raise UserError(f"{root}: has no split {split!r}, only {', '.join(card.splits)}")
    return name


def split_files(root: Path, split: str, card: DatasetCard | None = None) -> list[Path]:
    """List the Parquet files of a split, in order; raises `UserError` if one is missing or cut.

    The `card` is the dataset's; None = read it.
    """
    card = card or DatasetCard.load(root)
    files = [root / name for name in sorted(card.files) if name.startswith(f"{split}/")]
    if not files:
        raise UserError(f"{root}: no split {split!r}, only {', '.join(card.splits)}")
    if missing := [path for path in files if not path.is_file()]:
        raise UserError(f"{missing[0]}: listed in the card, but missing; make the dataset again")
    if links := [path for path in files if leads_out(path, root)]:
        raise UserError(
            f"{links[0]}: a link to {links[0].resolve()}, which is not in the dataset; copy that file into the dataset"
        )
    check_rows(files, split, card)
    return files


def file_digests(root: Path, split: str, card: DatasetCard | None = None, *, cache_dir: str = "") -> dict[str, str]:
    """The SHA-256 of each Parquet file of a split as it is now, whatever the card says (`integrity.digest_of`)."""
    return {path.relative_to(root).as_posix(): digest_of(path, cache_dir) for path in split_files(root, split, card)}


def as_array(column: pa.ChunkedArray, shape: Sequence[int]) -> np.ndarray:
    """Convert an Arrow column of tensors to (N, *shape) float16, without a Python object per value."""
    chunks = []
    for chunk in column.chunks:
        values = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
        for _ in shape:
            values = values.flatten()  # unlike `.values`, it respects slices
        chunks.append(values.to_numpy(zero_copy_only=False))
    flat = np.concatenate(chunks) if len(chunks) != 1 else chunks[0]
    if flat.size != len(column) * math.prod(shape):
        raise UserError(
            f"tensors have {flat.size // max(1, len(column))} values, but the card's shape is {tuple(shape)}; "
            "make the dataset again"
        )
    return flat.reshape(-1, *shape)


class MappedTensors:
    """A column of tensors on disk: `MappedTensors(split.data.column("image"), shape)[rows]`.

    Reads the memory map of an `open_split` as NumPy arrays; the rows of `datasets`, with their extension type, take
    fifty times as long. The table must be whole: pick rows here instead of with `select` or `filter`.
    """

    def __init__(self, column: pa.ChunkedArray, shape: Sequence[int]) -> None:
        self._join([as_array(pa.chunked_array([chunk]), shape) for chunk in column.chunks], shape)  # views

    @classmethod
    def of_parts(cls, parts: Sequence[np.ndarray], shape: Sequence[int]) -> Self:
        """Read from arrays (n, *shape) instead, one after the other, such as memory-mapped files."""
        self = cls.__new__(cls)
        self._join(parts, shape)
        return self

    @classmethod
    def joined(cls, several: Sequence[MappedTensors]) -> Self:
        """The rows of several columns with the same shape, one after the other."""
        return cls.of_parts([part for each in several for part in each._parts], several[0].shape)

    def _join(self, parts: Sequence[np.ndarray], shape: Sequence[int]) -> None:
        self._parts, self.shape = parts, tuple(shape)
        self._starts = np.cumsum([0] + [len(part) for part in parts])
        self.dtype = parts[0].dtype if parts else np.dtype(np.float16)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Copy rows in the given order: (n, *shape), float16 for a column."""
        rows = np.asarray(rows)
        parts = np.searchsorted(self._starts, rows, side="right") - 1
        result = np.empty((len(rows), *self.shape), self.dtype)
        for part in np.unique(parts):
            here = parts == part
            result[here] = self._parts[part][rows[here] - self._starts[part]]
        return result
