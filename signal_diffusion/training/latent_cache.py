"""Cache of a split's latents on disk: each example's posterior moments, before sampling and normalisation.

There is a folder per key, named by a hash of everything that the latents depend on. It contains shards of equally many
examples: a SHA-256, then float32 values in C order. Shards are renamed into place, so a killed run keeps those it had
finished. Shards that are damaged or from another folder are detected and encoded again. A complete folder is only read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import MappedTensors
from signal_diffusion.data.loaders import Examples
from signal_diffusion.disks import writing
from signal_diffusion.errors import UserError, listed, raise_on_all_processes
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.paths import cache_folder, is_readable

__all__ = ["cache_key", "cached", "latents_folder"]

FORMAT = 1
"""Increase it with every change to how examples are encoded or stored."""
BYTES_PER_SHARD = 2**22
"""Minimum size of a shard; also how much is encoded and read at a time."""
MAX_SHARDS = 64
"""Per split. A memory-mapped shard takes an open file, and some systems allow a process only 256."""
SECONDS_TO_WAIT = 5.0
"""Between two polls of the lock while another run encodes. All processes meet at each poll: they would time out
if one waited for minutes."""
DIGEST = 32  # bytes of a SHA-256
KEY_NAME = "key.json"
ADVICE = (
    "free some space, set data.loading.cache_dir to another folder, or set model.autoencoder.cache_latents to false"
)


def cache_key(
    autoencoder: Autoencoder,
    card: DatasetCard,
    *,
    files: Mapping[str, str],
    split: str,
    column: str,
    num_examples: int,
) -> dict[str, Any]:
    """Everything that the latents of `num_examples`, spread evenly over a split, depend on.

    `files` are hashes of the files as they are now (`file_digests`); they may have changed since the card was written.
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


def latents_folder(key: dict[str, Any], cache_dir: str = "", *, holds: Callable[[Path], bool] | None = None) -> Path:
    """The cache folder of a `cache_key`; `cache_dir` and `holds` are as in `cache_folder`."""
    return cache_folder(cache_dir, f"latents/{hashlib.sha256(_text(key).encode()).hexdigest()[:32]}", holds=holds)


def cached(
    examples: Examples,
    autoencoder: Autoencoder,
    key: dict[str, Any],
    accelerator: Accelerator,
    *,
    say: Callable[[str], None],
    cache_dir: str = "",
    memory_limit_mb: int | None = None,
) -> Examples:
    """The examples with `autoencoder.moments` instead of their data; encodes those that are not in the cache.

    All processes share the work, shard by shard, and return when it is done. `say` prints a line of progress.

    Raises
    ------
    UserError
        On all processes, if one cannot read or write the folder, or if they do not share it.
    """
    shape = autoencoder.moments_shape

    def shards_in(folder: Path) -> list[_Shard]:
        return _shards(folder, len(examples), shape)

    folder = latents_folder(
        key, cache_dir, holds=lambda folder: all(is_readable(shard.path) for shard in shards_in(folder))
    )
    shards = shards_in(folder)
    states = _states(shards, accelerator)
    if damaged := [shard.path.name for shard, state in zip(shards, states, strict=True) if state == "damaged"]:
        say(f"latent cache {folder}: encoding {listed(damaged)} again (damaged, or from another cache folder)")
    what = f"{len(examples):,} examples of {key['split']}"
    if set(states) == {"whole"}:
        say(f"using cached latents of {what} from {folder}")
    else:
        with _locked(folder, accelerator, say):
            _encode(shards, examples, autoencoder, accelerator, key, what=what, say=say)
    with raise_on_all_processes(), _reported_to_user(folder):
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
                expected = file.read(DIGEST)
                while content := file.read(BYTES_PER_SHARD):
                    digest.update(content)
        except FileNotFoundError:
            return "missing"
        return "whole" if expected == digest.digest() else "damaged"

    def write(self, parts: Iterable[np.ndarray]) -> None:
        """Write the moments, a few examples at a time, to a temporary file, and rename it into place."""
        digest, partial = self._digest(), self.path.with_name(f".{self.path.name}.partial")
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
            partial.replace(self.path)

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


def _shards(folder: Path, num_examples: int, shape: tuple[int, ...]) -> list[_Shard]:
    """The shards of a split; they depend only on the number of examples and the shape of their moments."""
    size = max(_examples_at_a_time(shape), math.ceil(num_examples / MAX_SHARDS))
    return [
        _Shard(folder / f"{start // size:05d}.latents", range(start, min(start + size, num_examples)), shape)
        for start in range(0, num_examples, size)
    ]


def _examples_at_a_time(shape: tuple[int, ...]) -> int:
    return max(1, BYTES_PER_SHARD // (4 * math.prod(shape)))


def _states(shards: Sequence[_Shard], accelerator: Accelerator) -> list[str]:
    """The state of each shard; every process checks some of them."""
    numbers = range(accelerator.process_index, len(shards), accelerator.num_processes)
    with raise_on_all_processes(), _reported_to_user(shards[0].path.parent):
        own = [(number, shards[number].state()) for number in numbers]
    states = dict(gather_object(own))
    return [states[number] for number in range(len(shards))]


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
    """Encode missing and damaged shards, one per process and round, so that no process waits long for another."""
    states, folder = _states(shards, accelerator), shards[0].path.parent
    incomplete = [shard for shard, state in zip(shards, states, strict=True) if state != "whole"]
    if not incomplete:  # another run has encoded them while this one waited for the lock
        say(f"using cached latents of {what} from {folder}")
        return
    say(f"encoding {what} into {folder}: {len(incomplete)} of {len(shards)} shards")
    start, size = time.perf_counter(), _examples_at_a_time(autoencoder.moments_shape)
    for first in range(0, len(incomplete), accelerator.num_processes):
        with raise_on_all_processes(), _reported_to_user(folder):
            if accelerator.is_main_process and not (folder / KEY_NAME).exists():
                (folder / KEY_NAME).write_text(_text(key), encoding="utf-8")
            for shard in incomplete[first : first + accelerator.num_processes][accelerator.process_index :][:1]:
                batches = (shard.rows[i : i + size] for i in range(0, len(shard.rows), size))
                shard.write(autoencoder.moments(examples[rows][0]).numpy() for rows in batches)
    say(f"encoded in {time.perf_counter() - start:.1f} s")


@contextmanager
def _locked(folder: Path, accelerator: Accelerator, say: Callable[[str], None]) -> Iterator[None]:
    """Lock the folder, so that another run that needs the same latents waits, and then finds them complete."""
    lock, waiting = filelock.FileLock(folder / ".lock"), False
    try:
        while True:
            with raise_on_all_processes(), _reported_to_user(folder):
                folder.mkdir(parents=True, exist_ok=True)
                ready = _acquired(lock) if accelerator.is_main_process else True
            if all(gather_object([ready])):
                break
            if not waiting:
                say(f"waiting for another run that is encoding the same latents into {folder}")
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
def _reported_to_user(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into a `UserError` with the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot cache latents there ({error.strerror or error}); {ADVICE}") from None


def _text(key: dict[str, Any]) -> str:
    return json.dumps(key, indent=2, sort_keys=True, default=str) + "\n"
