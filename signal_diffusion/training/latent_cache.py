"""Cache of a split's latents on disk: each example's posterior moments, before sampling and normalisation.

There is a folder per key, named by a hash of everything that the latents depend on. It contains shards of equally many
examples (`latent_shards`). A killed run keeps those it had finished; damaged ones are encoded again. A complete folder
is only read.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
from accelerate import Accelerator
from accelerate.utils import gather_object

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import MappedTensors, file_digests
from signal_diffusion.data.loaders import Examples
from signal_diffusion.errors import listed, raise_on_all_processes
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.paths import cache_folder, is_readable
from signal_diffusion.training.latent_shards import (
    PARTIAL,
    LatentShard,
    examples_at_a_time,
    reported_to_user,
    shards_of,
)

__all__ = ["LatentSplit", "cache_key", "cached", "fill", "latent_split", "latents_folder"]

FORMAT = 1
"""Increase it with every change to how examples are encoded or stored."""
SECONDS_TO_WAIT = 5.0
"""Between two polls of the lock while another run encodes. All processes meet at each poll: they would time out
if one waited for minutes."""
KEY_NAME = "key.json"

Say = Callable[[str], None]
"""Prints a line of progress."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentSplit:
    """The examples of a split, and where their latents are cached."""

    examples: Examples
    autoencoder: Autoencoder
    key: Mapping[str, Any]
    """`cache_key`."""
    cache_dir: str = ""
    """As in `cache_folder`."""

    @cached_property
    def folder(self) -> Path:
        """The folder of the shards: a complete one that can be read, otherwise one that can be written."""
        return latents_folder(
            self.key, self.cache_dir, holds=lambda folder: all(is_readable(each.path) for each in self._in(folder))
        )

    @cached_property
    def shards(self) -> list[LatentShard]:
        """All shards, also those that are not there yet."""
        return self._in(self.folder)

    def _in(self, folder: Path) -> list[LatentShard]:
        return shards_of(folder, len(self.examples), self.autoencoder.moments_shape)

    def begin(self) -> None:
        """Make the folder, with the key in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / KEY_NAME).exists():
            (self.folder / KEY_NAME).write_text(_text(self.key), encoding="utf-8")

    def encode(self, shard: LatentShard) -> None:
        """Encode the examples of a shard and write it."""
        rows, size = shard.rows, examples_at_a_time(self.autoencoder.moments_shape)
        batches = (rows[start : start + size] for start in range(0, len(rows), size))
        shard.write(self.autoencoder.moments(self.examples[batch][0]).numpy() for batch in batches)

    def __str__(self) -> str:
        return f"{len(self.examples):,} examples of {self.key['split']}"


def latent_split(
    examples: Examples, name: str, dataset: Dataset, autoencoder: Autoencoder, accelerator: Accelerator
) -> LatentSplit:
    """The split that `data.paths` calls `name`; all processes get the hashes of its files from the first one."""
    split, loading = dataset.split(name), dataset.data.loading
    with raise_on_all_processes():
        own = (
            [file_digests(dataset.root, split, dataset.card, cache_dir=loading.cache_dir)]
            if accelerator.is_main_process
            else []
        )
    [files] = gather_object(own)
    key = cache_key(
        autoencoder,
        dataset.card,
        files=files,
        split=split,
        column=dataset.tensor_column,
        num_examples=len(examples),
    )
    return LatentSplit(examples=examples, autoencoder=autoencoder, key=key, cache_dir=loading.cache_dir)


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


def latents_folder(key: Mapping[str, Any], cache_dir: str = "", *, holds: Callable[[Path], bool] | None = None) -> Path:
    """The cache folder of a `cache_key`; `cache_dir` and `holds` are as in `cache_folder`."""
    return cache_folder(cache_dir, f"latents/{hashlib.sha256(_text(key).encode()).hexdigest()[:32]}", holds=holds)


def cached(split: LatentSplit, accelerator: Accelerator, *, say: Say, memory_limit_mb: int | None = None) -> Examples:
    """The examples with `autoencoder.moments` instead of their data; encodes those that are not in the cache.

    All processes share the work, shard by shard, and return when it is done.

    Raises
    ------
    UserError
        On all processes, if one cannot read or write the folder, or if they do not share it.
    """

    def encode(shards: Sequence[LatentShard]) -> None:
        # One per process and round, so that no process waits long for another.
        for first in range(0, len(shards), accelerator.num_processes):
            with raise_on_all_processes(), reported_to_user(split.folder):
                for shard in shards[first : first + accelerator.num_processes][accelerator.process_index :][:1]:
                    split.encode(shard)

    fill(split, encode, accelerator, say=say)
    with raise_on_all_processes(), reported_to_user(split.folder):
        parts = [shard.mapped() for shard in split.shards]
    return split.examples.with_tensors(MappedTensors.of_parts(parts, split.autoencoder.moments_shape), memory_limit_mb)


def fill(
    split: LatentSplit, encode: Callable[[Sequence[LatentShard]], None], accelerator: Accelerator, *, say: Say
) -> None:
    """Have missing and damaged shards encoded, while other runs wait for them."""
    states = _states(split.shards, accelerator)
    if damaged := [shard.path.name for shard, state in zip(split.shards, states, strict=True) if state == "damaged"]:
        say(f"latent cache {split.folder}: encoding {listed(damaged)} again (damaged, or from another cache folder)")
    if set(states) != {"whole"}:
        with _locked(split.folder, accelerator, say):
            states = _states(split.shards, accelerator)  # another run may have encoded them meanwhile
            incomplete = [shard for shard, state in zip(split.shards, states, strict=True) if state != "whole"]
            if incomplete:
                say(f"encoding {split} into {split.folder}: {len(incomplete)} of {len(split.shards)} shards")
                start = time.perf_counter()
                with raise_on_all_processes(), reported_to_user(split.folder):
                    if accelerator.is_main_process:
                        split.begin()
                encode(incomplete)
                with raise_on_all_processes(), reported_to_user(split.folder):
                    if accelerator.is_main_process:
                        _remove_partial(split.folder)
                say(f"encoded in {time.perf_counter() - start:.1f} s")
                return
    say(f"using cached latents of {split} from {split.folder}")


def _states(shards: Sequence[LatentShard], accelerator: Accelerator) -> list[str]:
    """The state of each shard; every process checks some of them."""
    numbers = range(accelerator.process_index, len(shards), accelerator.num_processes)
    with raise_on_all_processes(), reported_to_user(shards[0].path.parent):
        own = [(number, shards[number].state()) for number in numbers]
    states = dict(gather_object(own))
    return [states[number] for number in range(len(shards))]


def _remove_partial(folder: Path) -> None:
    """Remove what killed processes left of shards."""
    for path in folder.glob(f".*.{PARTIAL}"):
        path.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path, accelerator: Accelerator, say: Say) -> Iterator[None]:
    """Lock the folder, so that another run that needs the same latents waits, and then finds them complete."""
    lock, waiting = filelock.FileLock(folder / ".lock"), False
    try:
        while True:
            with raise_on_all_processes(), reported_to_user(folder):
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


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, indent=2, sort_keys=True, default=str) + "\n"
