"""A training split on the Hugging Face Hub, of which a run reads what it needs while it trains.

The small columns are copied into the cache once. The tensors are read by row groups of 8 MiB (`ExampleOrder.block`),
by requests for these bytes alone; a few groups are kept in memory, and nothing of them on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.arrow_copy import cached_arrow
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import MappedTensors, as_array
from signal_diffusion.data.loaders import BLOCKS_MIXED
from signal_diffusion.errors import UserError, one_line

if TYPE_CHECKING:
    import datasets

__all__ = ["RemoteSplit", "StreamedTensors"]

_GROUP = "row group"
"""Column of the copy: the number of a row group in its file."""


@dataclass(frozen=True, kw_only=True)
class RemoteSplit:
    """The files of a split in a file system of fsspec."""

    filesystem: Any
    files: tuple[str, ...]
    tensor: str
    """The column of the tensors."""
    shape: tuple[int, ...]

    @classmethod
    def of_card(cls, filesystem: Any, root: str, split: str, card: DatasetCard, tensor: str) -> RemoteSplit:
        """The split of a dataset of ours whose folder is `root` in the file system."""
        names = [name for name in sorted(card.files) if name.startswith(f"{split}/")]
        return cls(
            filesystem=filesystem, files=tuple(f"{root}/{name}" for name in names), tensor=tensor, shape=card.shape
        )

    def columns(self, card: DatasetCard, cache_dir: str = "") -> datasets.Dataset:
        """All columns but the tensors, and where each row is; copied into the cache once for each version of the files.

        Raises `UserError` if a file cannot be read.
        """
        import datasets

        key = [self.tensor, *self.files, *sorted(card.files.items())]
        version = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
        source = self.files[0].rpartition("/")[0]
        return datasets.Dataset.from_file(str(cached_arrow(version, self._columns, source, cache_dir)))

    def group(self, file: int, number: int) -> np.ndarray:
        """The tensors of a row group, (n, *shape) float16."""
        with _reported(self.files[file]), self.filesystem.open(self.files[file]) as opened:
            table = pq.ParquetFile(opened).read_row_group(number, columns=[self.tensor])
        return as_array(table[0], self.shape)

    def _columns(self) -> Iterator[pa.Table]:
        import datasets

        for file, path in enumerate(self.files):
            with _reported(path), self.filesystem.open(path) as opened:
                parquet = pq.ParquetFile(opened)
                own = dict(datasets.Features.from_arrow_schema(parquet.schema_arrow))
                del own[self.tensor]
                names, own[_GROUP] = list(own), datasets.Value("int64")
                metadata = datasets.Features(own).arrow_schema.metadata
                for number in range(parquet.num_row_groups):
                    table = parquet.read_row_group(number, columns=names).combine_chunks()
                    where = pa.array(np.full(len(table), file << 16 | number))
                    yield table.append_column(_GROUP, where).replace_schema_metadata(metadata)


@contextmanager
def _reported(path: str) -> Iterator[None]:
    """Turn errors of the network, and of damaged files, into a `UserError`."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise UserError(
            f"{path}: cannot be read ({one_line(error)}); check the connection and resume, or set data.streaming = "
            "false to download the dataset first"
        ) from error


class StreamedTensors(MappedTensors):
    """The tensors of a remote split, by rows; keeps as many row groups as an order in blocks mixes, and two more."""

    def __init__(self, split: RemoteSplit, columns: datasets.Dataset) -> None:
        where = columns.data.column(_GROUP).to_numpy()
        first = np.flatnonzero(np.diff(where, prepend=-1))
        self.shape, self.dtype = split.shape, np.dtype(np.float16)
        self._starts, self._groups = np.append(first, len(where)), where[first]
        self._split = split
        self._kept: dict[int, np.ndarray] = {}

    @property
    def block(self) -> int:
        """Rows of a row group; only the last one of a split has fewer."""
        return int(np.diff(self._starts).max())

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Read rows in the given order: (n, *shape) float16."""
        rows = np.asarray(rows)
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        result = np.empty((len(rows), *self.shape), self.dtype)
        for group in np.unique(groups):
            here = groups == group
            result[here] = self._group(int(group))[rows[here] - self._starts[group]]
        return result

    def _group(self, number: int) -> np.ndarray:
        """A row group, from memory or the network; the one that was used least recently makes room for it."""
        kept = self._kept.pop(number, None)
        if kept is None:
            file, group = divmod(int(self._groups[number]), 1 << 16)
            kept = self._split.group(file, group)
        if len(self._kept) > BLOCKS_MIXED:
            del self._kept[next(iter(self._kept))]
        self._kept[number] = kept
        return kept
