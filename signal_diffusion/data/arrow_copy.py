"""A copy of a split as one Arrow file in the cache.

A memory map of an Arrow file gives any row without decoding its neighbours; a row of a Parquet file is decoded with
its whole row group of 8 MiB. `datasets.load_dataset` makes such a copy too, but it reads paths as patterns (the folder
"t[1]" matches "t1"), writes into the home folder and takes longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import filelock
import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.integrity import file_version
from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError
from signal_diffusion.paths import cache_folder, is_readable

__all__ = ["arrow_copy", "cached_arrow"]


def arrow_copy(files: Sequence[Path], cache_dir: str = "") -> Path:
    """Copy Parquet files to an Arrow file in the cache, once for each version of them; returns its path.

    A copy that another user made is read.

    Raises
    ------
    UserError
        If one of them cannot be read.
    """
    version = hashlib.sha256(repr([file_version(path) for path in files]).encode()).hexdigest()[:32]
    needs = sum(path.stat().st_size for path in files)
    return cached_arrow(version, lambda: _row_groups(files), str(files[0].parent), cache_dir, needs=needs)


def cached_arrow(
    version: str, groups: Callable[[], Iterable[pa.Table]], source: str, cache_dir: str = "", *, needs: int = 0
) -> Path:
    """Write tables to an Arrow file in the cache, a record batch each, unless that of this `version` is there.

    `source` says what it is a copy of, and `needs` how many bytes it has, 0 = not known.
    """
    name = f"{version}.arrow"
    copy = cache_folder(cache_dir, "splits", holds=lambda folder: is_readable(folder / name)) / name
    if copy.exists():  # then it is complete: it is renamed into place
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(copy.with_suffix(".wait")):  # another run may start now
        if not copy.exists():
            partial, tables = copy.with_suffix(".partial"), iter(groups())
            first, advice = next(tables), "free some space, or set data.loading.cache_dir"
            with writing(copy, f"a copy of {source}", needs=needs, advice=advice), ExitStack() as stack:
                stack.callback(partial.unlink, missing_ok=True)
                with pa.ipc.new_stream(str(partial), first.schema) as writer:
                    for group in chain([first], tables):
                        writer.write_table(group)
                partial.replace(copy)
    return copy


def _row_groups(files: Sequence[Path]) -> Iterator[pa.Table]:
    for path in files:
        try:
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: a file is damaged ({reason}); make the dataset again") from None
