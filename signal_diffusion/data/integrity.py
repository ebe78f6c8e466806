"""Whether the files of a dataset are still those that its card describes.

The number of rows is read from the end of each Parquet file whenever a split is used: a file that was cut or replaced
has no end, or another one. The SHA-256 of whole files takes a second or two per GB, so it is compared only where a run
starts or resumes, or where samples or a model refer to the dataset, and it is remembered in the cache.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.paths import cache_folder, is_readable

__all__ = ["changed_files", "check_rows", "digest_of", "file_version", "leads_out", "sha256_of"]

_DIGITS = 64  # of a SHA-256


def check_rows(files: Sequence[Path], split: str, card: DatasetCard) -> None:
    """Check that the Parquet files of a split have the card's number of rows together, and tensors of its shape.

    Raises
    ------
    UserError
        If they do not, or one of them was cut.
    """
    found, expected = 0, card.splits[split]["examples"]
    for path in files:
        try:
            metadata = pq.read_metadata(path)
        except (pa.ArrowException, OSError):
            raise UserError(
                f"{path}: a file is damaged or cut: not a whole Parquet file ({path.stat().st_size:,} bytes); copy it "
                "again, or make the dataset again"
            ) from None
        found += metadata.num_rows
        num_values = _num_values(metadata, card.representation["column"])
        if num_values != metadata.num_rows * math.prod(card.shape):
            raise UserError(
                f"{path}: its tensors have {num_values:,} values, but the card says {metadata.num_rows} of shape "
                f"{card.shape}; make the dataset again"
            )
    if found != expected:
        raise UserError(
            f"{files[0].parent}: its files have {found} examples, but the card says {expected}; copy the dataset "
            "again, or make it again"
        )


def leads_out(path: Path, root: Path) -> bool:
    """Whether a path in a dataset is a link to a file that is not in its folder, nor in a store of files by content.

    Those stores are that of git-annex, and that of the Hub's cache.
    """
    target, root = path.resolve(), root.resolve()
    stores = "/annex/objects/" in target.as_posix() or target.is_relative_to(root.parent.parent / "blobs")
    return not (target.is_relative_to(root) or stores)


def changed_files(root: Path, card: DatasetCard, splits: Collection[str], cache_dir: str = "") -> dict[str, str]:
    """The files of `splits` whose SHA-256 is not the one in the card: path within the dataset → SHA-256 now."""
    names = [name for name in sorted(card.files) if name.split("/")[0] in splits]
    found = {name: digest_of(root / name, cache_dir) for name in names}
    return {name: digest for name, digest in found.items() if digest != card.files[name]}


def digest_of(path: Path, cache_dir: str = "") -> str:
    """The SHA-256 of a file; remembered in the cache for this version of the file."""
    before = file_version(path)
    name = hashlib.sha256(repr(before).encode()).hexdigest()[:32]
    remembered = cache_folder(cache_dir, "digests", holds=lambda folder: is_readable(folder / name)) / name
    if remembered.is_file() and len(digest := remembered.read_text(encoding="ascii", errors="replace")) == _DIGITS:
        return digest  # otherwise it is of a power failure
    digest = sha256_of(path)
    if file_version(path) == before:
        with suppress(OSError):  # a full disk: the file is hashed again next time
            remembered.parent.mkdir(parents=True, exist_ok=True)
            partial = remembered.with_name(f".{name}.{uuid.uuid4().hex}")
            partial.write_text(digest, encoding="ascii")
            partial.replace(remembered)
    return digest


def file_version(path: Path) -> tuple[str | int, ...]:
    """What distinguishes the versions of a file without reading it: path, size, times of change (ns) and inode.

    Programs can set the time of modification back (mtime), but not that of the last change to the inode (ctime).
    """
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _num_values(metadata: pq.FileMetaData, column: str) -> int:
    """The number of values in the tensors of a column."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    paths = [groups[0].column(number).path_in_schema for number in range(metadata.num_columns)] if groups else []
    own = [number for number, path in enumerate(paths) if path.split(".")[0] == column]
    return sum(group.column(number).num_values for group in groups for number in own)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a whole file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
