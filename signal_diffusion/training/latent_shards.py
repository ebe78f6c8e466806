"""Files of a latent cache: each has the moments of consecutive examples of a split.

A file is a SHA-256, then float32 values in C order. It is renamed into place, so a killed process leaves nothing that
counts, and a file that is damaged or from another folder is detected.
"""

from __future__ import annotations

import hashlib
import math
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError

__all__ = ["PARTIAL", "LatentShard", "examples_at_a_time", "reported_to_user", "shards_of"]

BYTES_PER_SHARD = 2**22
"""Minimum size of a shard; also how much is encoded and read at a time."""
MAX_SHARDS = 64
"""Per split. A memory-mapped shard takes an open file, and some systems allow a process only 256."""
DIGEST = 32  # bytes of a SHA-256
PARTIAL = "partial"
"""The ending of a file that is being written."""
ADVICE = (
    "free some space, set data.loading.cache_dir to another folder, or set model.autoencoder.cache_latents to false"
)


class LatentShard:
    """A file with the moments of consecutive examples."""

    def __init__(self, path: Path, rows: range, shape: tuple[int, ...]) -> None:
        self.path, self.rows = path, rows
        self._shape = (len(rows), *shape)
        self._size = DIGEST + 4 * math.prod(self._shape)

    def state(self) -> str:
        """Whether the file is "whole", "missing" or "damaged"."""
        digest = self._digest()
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != self._size:
                    return "damaged"
                expected = file.read(DIGEST)
                while content := file.read(BYTES_PER_SHARD):
                    digest.update(content)
        except FileNotFoundError:
            return "missing"
        return "whole" if expected == digest.digest() else "damaged"

    def write(self, parts: Iterable[np.ndarray]) -> None:
        """Write the moments, a few examples at a time, to a temporary file, and rename it into place."""
        # A unique name: a worker that is thought to be dead may still write while another does its shard again.
        digest, partial = self._digest(), self.path.with_name(f".{self.path.stem}-{uuid.uuid4().hex}.{PARTIAL}")
        with writing(self.path, "latents", needs=self._size, advice=ADVICE), ExitStack() as stack:
            stack.callback(partial.unlink, missing_ok=True)
            with partial.open("wb") as file:
                file.write(bytes(DIGEST))
                for part in parts:
                    content = np.ascontiguousarray(part, "<f4").tobytes()
                    digest.update(content)
                    file.write(content)
                file.seek(0)
                file.write(digest.digest())
            try:
                partial.replace(self.path)
            except FileNotFoundError:  # a run that completed the cache removed it with what killed processes had left
                if self.state() != "whole":
                    raise

    def mapped(self) -> np.ndarray:
        """The moments (n, 2c or c, h, w), memory-mapped."""
        if not self.path.is_file():
            raise UserError(
                f"{self.path}: not found, though another process encoded it: this folder is not shared; set "
                "data.loading.cache_dir to a folder that all processes share, or set model.autoencoder.cache_latents "
                "to false"
            )
        return np.memmap(self.path, "<f4", "r", offset=DIGEST, shape=self._shape)

    def _digest(self) -> Any:
        """A hash to update with the content; it starts with folder and number, to detect a misplaced shard."""
        return hashlib.sha256(f"{self.path.parent.name}/{self.path.name}\n".encode())


def shards_of(folder: Path, num_examples: int, shape: tuple[int, ...]) -> list[LatentShard]:
    """The shards of a split; they depend only on the number of examples and the shape of their moments."""
    size = max(examples_at_a_time(shape), math.ceil(num_examples / MAX_SHARDS))
    return [
        LatentShard(folder / f"{start // size:05d}.latents", range(start, min(start + size, num_examples)), shape)
        for start in range(0, num_examples, size)
    ]


def examples_at_a_time(shape: tuple[int, ...]) -> int:
    """Examples that are encoded together, by the shape of their moments."""
    return max(1, BYTES_PER_SHARD // (4 * math.prod(shape)))


@contextmanager
def reported_to_user(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `UserError` with the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot cache latents there ({error.strerror or error}); {ADVICE}") from None
