"""A split's latents on the disk, encoded once: what the VAE makes of each example before anything is drawn or scaled.

A folder per key, which is a hash of all that latents depend on, holds shards of as many examples each: a SHA-256, and
float32 values as they lie in memory. A shard is whole or not there, so that a killed run has what it had finished; one
that is damaged, or comes from another folder, is noticed and made again. A folder that is whole is only read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import MappedTensors
from signal_diffusion.data.loaders import Examples
from signal_diffusion.errors import UserError, listed, raised_by_all
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.paths import cache_folder

__all__ = ["cached", "describe", "place_of"]

FORMAT = 1
"""To be raised with every change of how examples become moments, or lie on the disk."""
BYTES_PER_SHARD = 2**22
"""At least, and what is encoded and read at a time."""
MOST_SHARDS = 64
"""Of a split: each takes an open file where it stays on the disk, of which a process may have 256 on some systems."""
SECONDS_TO_WAIT = 5.0
"""Between two answers to all processes while another run encodes: they give each other up after minutes."""
DIGEST = 32  # bytes of a SHA-256
KEY_NAME = "key.json"


def describe(
    autoencoder: Autoencoder,
    card: DatasetCard,
    *,
    files: Mapping[str, str],
    split: str,
    column: str,
    num_examples: int,
) -> dict[str, Any]:
    """All that the latents of a split depend on, `num_examples` being spread evenly over it.

    `files` are the hashes of what lies there (`file_digests`), which may have changed since the card was written.
    """
    return {
        "format": FORMAT,
        "autoencoder": {"sha256": autoencoder.fingerprint, "kind": autoencoder.kind, **autoencoder.settings},
        "tiling": autoencoder.tiling,
        "files": dict(files),
        "split": split,
        "column": column,
        "num_examples": num_examples,
        "shape": card.shape,
    }


def place_of(key: dict[str, Any], cache_dir: str = "") -> Path:
    """The folder in the cache for what `describe` says; `cache_dir` as `cache_folder` takes it."""
    return cache_folder(cache_dir) / "latents" / hashlib.sha256(_text(key).encode()).hexdigest()[:32]


def cached(
    examples: Examples,
    autoencoder: Autoencoder,
    key: dict[str, Any],
    accelerator: Accelerator,
    *,
    memory_limit_mb: int,
    say: Callable[[str], None],
    cache_dir: str = "",
) -> Examples:
    """The examples with `autoencoder.moments` in the place of their data, encoded where they are not in the cache yet.

    All processes share the work, shard by shard, and return when it is done. `say` is given a line or two.

    Raises
    ------
    UserError
        On all processes, where the folder refuses one of them, or they do not see the same cache.
    """
    folder, shape = place_of(key, cache_dir), autoencoder.moments_shape
    shards = _shards(folder, len(examples), shape)
    states = _states(shards, accelerator)
    if damaged := [shard.path.name for shard, state in zip(shards, states, strict=True) if state == "damaged"]:
        say(f"latent cache: {listed(damaged)} in {folder}: damaged, or not of this key; encoding again")
    what = f"{len(examples):,} examples of {key['split']}"
    if set(states) == {"whole"}:
        say(f"latents of {what} are in {folder}")
    else:
        with _alone(folder, accelerator, say):
            _encode(shards, examples, autoencoder, accelerator, key, what=what, say=say)
    with raised_by_all(), _refusals(folder):
        parts = [shard.mapped() for shard in shards]
    return examples.with_tensors(MappedTensors.of_parts(parts, shape), memory_limit_mb)


class _Shard:
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
                stated = file.read(DIGEST)
                while content := file.read(BYTES_PER_SHARD):
                    digest.update(content)
        except FileNotFoundError:
            return "missing"
        return "whole" if stated == digest.digest() else "damaged"

    def write(self, parts: Iterable[np.ndarray]) -> None:
        """Write the moments, a few examples at a time, beside, and rename the file into place."""
        digest, partial = self._digest(), self.path.with_name(f".{self.path.name}.partial")
        try:
            with partial.open("wb") as file:
                file.write(bytes(DIGEST))
                for part in parts:
                    content = np.ascontiguousarray(part, "<f4").tobytes()
                    digest.update(content)
                    file.write(content)
                file.seek(0)
                file.write(digest.digest())
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def mapped(self) -> np.ndarray:
        """The moments (n, 2c or c, h, w), memory-mapped."""
        if not self.path.is_file():
            raise UserError(
                f"{self.path}: encoded by another process, which writes elsewhere; set data.loading.cache_dir to a "
                "folder that all processes share, or model.autoencoder.cache_latents to false"
            )
        return np.memmap(self.path, "<f4", "r", offset=DIGEST, shape=self._shape)

    def _digest(self) -> Any:
        """To be fed with the content; of its place, too: a shard of another folder, or number, is not this one."""
        return hashlib.sha256(f"{self.path.parent.name}/{self.path.name}\n".encode())


def _shards(folder: Path, num_examples: int, shape: tuple[int, ...]) -> list[_Shard]:
    """The files of a split, which follow from the number of its examples and the shape of their moments."""
    size = max(_at_a_time(shape), math.ceil(num_examples / MOST_SHARDS))
    return [
        _Shard(folder / f"{start // size:05d}.latents", range(start, min(start + size, num_examples)), shape)
        for start in range(0, num_examples, size)
    ]


def _at_a_time(shape: tuple[int, ...]) -> int:
    return max(1, BYTES_PER_SHARD // (4 * math.prod(shape)))


def _states(shards: Sequence[_Shard], accelerator: Accelerator) -> list[str]:
    """Of all shards, of which each process reads its share."""
    numbers = range(accelerator.process_index, len(shards), accelerator.num_processes)
    with raised_by_all(), _refusals(shards[0].path.parent):
        own = [(number, shards[number].state()) for number in numbers]
    found = dict(gather_object(own))
    return [found[number] for number in range(len(shards))]


def _encode(
    shards: Sequence[_Shard],
    examples: Examples,
    autoencoder: Autoencoder,
    accelerator: Accelerator,
    key: dict[str, Any],
    *,
    what: str,
    say: Callable[[str], None],
) -> None:
    """Make what is missing or damaged, in rounds of a shard for each process, so that none waits long for another."""
    states, folder = _states(shards, accelerator), shards[0].path.parent
    wanting = [shard for shard, state in zip(shards, states, strict=True) if state != "whole"]
    if not wanting:  # by now
        say(f"latents of {what} are in {folder}")
        return
    say(f"encoding {what} into {folder}: {len(wanting)} of {len(shards)} shards")
    start, size = time.perf_counter(), _at_a_time(autoencoder.moments_shape)
    for first in range(0, len(wanting), accelerator.num_processes):
        with raised_by_all(), _refusals(folder):
            if accelerator.is_main_process and not (folder / KEY_NAME).exists():
                (folder / KEY_NAME).write_text(_text(key), encoding="utf-8")
            for shard in wanting[first : first + accelerator.num_processes][accelerator.process_index :][:1]:
                batches = (shard.rows[i : i + size] for i in range(0, len(shard.rows), size))
                shard.write(autoencoder.moments(examples[rows][0]).numpy() for rows in batches)
    say(f"encoded in {time.perf_counter() - start:.1f} s")


@contextmanager
def _alone(folder: Path, accelerator: Accelerator, say: Callable[[str], None]) -> Iterator[None]:
    """Have another run that wants the same wait, and find it whole."""
    lock, waiting = filelock.FileLock(folder / ".lock"), False
    try:
        while True:
            with raised_by_all(), _refusals(folder):
                folder.mkdir(parents=True, exist_ok=True)
                ready = _acquired(lock) if accelerator.is_main_process else True
            if all(gather_object([ready])):
                break
            if not waiting:
                say(f"waiting for another run that encodes the same into {folder}")
            waiting = True
        yield
    finally:
        lock.release()


def _acquired(lock: filelock.BaseFileLock) -> bool:
    try:
        lock.acquire(timeout=SECONDS_TO_WAIT)
    except filelock.Timeout:
        return False
    return True


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    """Tell what the operating system refuses, which of a full disk says no path."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: latents cannot be kept there ({error.strerror or error}); make room, set "
            "data.loading.cache_dir to another folder, or model.autoencoder.cache_latents to false"
        ) from None


def _text(key: dict[str, Any]) -> str:
    return json.dumps(key, indent=2, sort_keys=True, default=str) + "\n"
