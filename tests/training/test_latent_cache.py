"""The latent cache: encoded once, read like examples, and never read if damaged or from another cache."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import file_digests
from signal_diffusion.data.loaders import Examples
from signal_diffusion.errors import UserError
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.training import latent_cache, latent_shards
from signal_diffusion.training.latent_cache import LatentSplit, cache_key, latents_folder
from signal_diffusion.training.latent_shards import LatentShard, shards_of
from tests.latent_spaces import autoencoder, pictures
from tests.training.processes import two_processes

NUM_EXAMPLES, PER_SHARD = 20, 6


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder for this test, with four shards of six, six, six and two examples."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(latent_shards, "BYTES_PER_SHARD", PER_SHARD * 8 * 8 * 8 * 4)
    return tmp_path


class Watched(Autoencoder):
    """Records how many examples it encodes at a time, and is interrupted after `most_calls`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.encoded: list[int] = []
        self.most_calls = 100

    def moments(self, x: Tensor) -> Tensor:
        if len(self.encoded) == self.most_calls:
            raise KeyboardInterrupt
        self.encoded.append(len(x))
        return super().moments(x)


def watched(seed: int = 0) -> Watched:
    return Watched(autoencoder(seed).vae, (1, 64, 64))


def key_of(root: Path, space: Autoencoder, **changes: Any) -> dict[str, Any]:
    files = file_digests(root, "train")
    arguments = {"files": files, "split": "train", "column": "image", "num_examples": NUM_EXAMPLES}
    return cache_key(space, DatasetCard.load(root), **(arguments | changes))


def cached(root: Path, space: Autoencoder, printed: list[str] | None = None, limit: int = 4096) -> Examples:
    say = (lambda line: None) if printed is None else printed.append
    return latent_cache.cached(split_of(root, space), Accelerator(cpu=True), memory_limit_mb=limit, say=say)


def split_of(root: Path, space: Autoencoder) -> LatentSplit:
    return LatentSplit(examples=pictures(root, NUM_EXAMPLES), autoencoder=space, key=key_of(root, space))


@pytest.mark.parametrize(("limit", "in_memory"), [(4096, True), (0, False)])
def test_the_cache_is_read_like_examples(limit: int, in_memory: bool, synthetic_dataset: Path) -> None:
    space, examples = autoencoder(), pictures(synthetic_dataset, NUM_EXAMPLES)
    rows = [19, 3, 3, 12, 0, 7]
    x, attributes = examples[rows]

    found = cached(synthetic_dataset, space, limit=limit)

    moments, found_attributes = found[rows]
    assert len(found) == NUM_EXAMPLES and found.shape == (8, 8, 8) and found.in_memory == in_memory
    torch.testing.assert_close(moments, space.moments(x), rtol=1e-6, atol=1e-6)
    assert moments.dtype == torch.float32 and moments.std() > 0.01
    assert torch.equal(found_attributes["label"], attributes["label"]) and len(attributes["label"].unique()) == 2


def test_a_split_is_encoded_once(synthetic_dataset: Path) -> None:
    space, printed = watched(), []
    first = cached(synthetic_dataset, space, printed)
    assert space.encoded == [6, 6, 6, 2]

    again = cached(synthetic_dataset, space, printed)

    assert space.encoded == [6, 6, 6, 2]
    assert torch.equal(again[range(NUM_EXAMPLES)][0], first[range(NUM_EXAMPLES)][0])
    folder = latents_folder(key_of(synthetic_dataset, space))
    assert printed[0] == f"encoding 20 examples of train into {folder}: 4 of 4 shards"
    assert printed[1].startswith("encoded in ") and printed[2:] == [
        f"using cached latents of 20 examples of train from {folder}"
    ]


def test_a_killed_encoding_continues_with_the_missing_shards(synthetic_dataset: Path) -> None:
    expected = cached(synthetic_dataset, autoencoder())[range(NUM_EXAMPLES)][0]
    shutil.rmtree(latents_folder(key_of(synthetic_dataset, autoencoder())))
    space = watched()
    space.most_calls = 2
    with pytest.raises(KeyboardInterrupt):
        cached(synthetic_dataset, space)

    space.most_calls = 100
    found = cached(synthetic_dataset, space)

    assert space.encoded == [6, 6, 6, 2]
    assert torch.equal(found[range(NUM_EXAMPLES)][0], expected)


@pytest.mark.parametrize("whole", [True, False])
def test_a_shard_whose_unfinished_file_another_run_removes_counts_if_that_run_wrote_the_shard(
    whole: bool, tmp_path: Path
) -> None:
    [shard], moments = shards_of(tmp_path, 2, (2, 3, 3)), np.ones((2, 2, 3, 3), np.float32)

    def removed_meanwhile() -> Iterator[np.ndarray]:
        [unfinished] = tmp_path.glob(".*")
        unfinished.unlink()
        if whole:
            shard.write([moments])
        yield moments

    with nullcontext() if whole else pytest.raises(FileNotFoundError):
        shard.write(removed_meanwhile())
    assert shard.state() == ("whole" if whole else "missing")


def flip_a_bit(shard: Path, folder: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)


def cut_short(shard: Path, folder: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-4])


def empty(shard: Path, folder: Path) -> None:
    shard.write_bytes(b"")


def replace_by_another_shard(shard: Path, folder: Path) -> None:
    shutil.copy(folder / "00002.latents", shard)


def replace_by_another_vaes_shard(shard: Path, folder: Path) -> None:
    """An undamaged shard of the same size and number."""
    shutil.copy(next(each for each in folder.parent.iterdir() if each != folder) / shard.name, shard)


@pytest.mark.parametrize(
    "harm", [flip_a_bit, cut_short, empty, replace_by_another_shard, replace_by_another_vaes_shard]
)
def test_a_damaged_or_misplaced_shard_is_reported_and_encoded_again(
    harm: Callable[[Path, Path], None], synthetic_dataset: Path
) -> None:
    cached(synthetic_dataset, autoencoder(seed=1))
    space, printed = watched(), []
    expected = cached(synthetic_dataset, space)[range(NUM_EXAMPLES)][0]
    folder = latents_folder(key_of(synthetic_dataset, space))
    harm(folder / "00001.latents", folder)

    found = cached(synthetic_dataset, space, printed)

    assert space.encoded == [6, 6, 6, 2, 6]
    assert printed[0] == f"latent cache {folder}: encoding 00001.latents again (damaged, or from another cache folder)"
    assert printed[1].endswith(": 1 of 4 shards")
    assert torch.equal(found[range(NUM_EXAMPLES)][0], expected)


def test_everything_that_latents_depend_on_changes_the_cache_folder(
    synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, card = autoencoder(), DatasetCard.load(synthetic_dataset)
    files = {"train/00000.parquet": "1" * 64}
    arguments = {"files": files, "split": "train", "column": "image", "num_examples": NUM_EXAMPLES}
    changed = dict.fromkeys(files, "0" * 64)
    tiled = Autoencoder(autoencoder().vae, (1, 64, 64), tiling=True)
    keys = [
        cache_key(space, card, **arguments),
        cache_key(autoencoder(seed=1), card, **arguments),
        cache_key(tiled, card, **arguments),
        cache_key(space, card, **(arguments | {"files": changed})),
        cache_key(space, card, **(arguments | {"split": "validation"})),
        cache_key(space, card, **(arguments | {"column": "signal"})),
        cache_key(space, card, **(arguments | {"num_examples": 30})),
    ]
    monkeypatch.setattr(latent_cache, "FORMAT", 2)
    keys.append(cache_key(space, card, **arguments))

    assert len({latents_folder(key) for key in keys}) == len(keys) == 8
    monkeypatch.undo()
    assert cache_key(autoencoder(), card, **arguments) == keys[0]


def test_a_large_split_has_larger_instead_of_more_shards(
    synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = cached(synthetic_dataset, autoencoder())[range(NUM_EXAMPLES)][0]
    shutil.rmtree(folder := latents_folder(key_of(synthetic_dataset, autoencoder())))
    monkeypatch.setattr(latent_shards, "MAX_SHARDS", 2)
    space = watched()

    found = cached(synthetic_dataset, space, limit=0)

    assert sorted(path.name for path in folder.glob("*.latents")) == ["00000.latents", "00001.latents"]
    assert space.encoded == [6, 4, 6, 4]  # still encoded a few at a time
    torch.testing.assert_close(found[range(NUM_EXAMPLES)][0], expected, rtol=1e-6, atol=1e-6)


def test_a_million_examples_need_only_64_open_files() -> None:
    shards = latent_shards.shards_of(Path("folder"), 1_000_000, (32, 8, 8))

    assert len(shards) == latent_shards.MAX_SHARDS == 64
    assert shards[0].rows == range(0, 15_625) and shards[-1].rows == range(984_375, 1_000_000)


def test_a_complete_cache_is_only_read(synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(synthetic_dataset, autoencoder())
    folder = latents_folder(key_of(synthetic_dataset, autoencoder()))
    (folder / ".lock").unlink(missing_ok=True)
    os.utime(folder, (1, 1))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK)  # another user's

    cached(synthetic_dataset, autoencoder())

    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert folder.stat().st_mtime == 1 and len(before) == 5  # four shards and key.json


def test_a_full_disk_is_one_line_that_says_what_to_do(synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = watched()
    pictures(synthetic_dataset, NUM_EXAMPLES)  # its copy in the cache exists
    monkeypatch.setattr(Path, "replace", refusing)

    with pytest.raises(UserError) as caught:
        cached(synthetic_dataset, space)

    folder = latents_folder(key_of(synthetic_dataset, space))
    [line] = caught.value.lines
    assert line.startswith(f"{folder / '00000.latents'}: cannot write latents: the disk is full (needs ")
    assert line.endswith(" or set model.autoencoder.cache_latents to false")
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == ["key.json"]


def refusing(*arguments: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_waits_for_another_that_encodes_the_same_latents_and_says_so_once(
    synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl", reason="another way to lock on Windows")
    monkeypatch.setattr(latent_cache, "SECONDS_TO_WAIT", 0.05)
    space, printed = watched(), []
    folder = latents_folder(key_of(synthetic_dataset, space))
    folder.mkdir(parents=True)
    other = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    polls: list[bool] = []
    acquired = latent_cache._acquired

    def polled(lock: filelock.BaseFileLock) -> bool:
        if len(polls) == 3:
            fcntl.flock(other, fcntl.LOCK_UN)
        polls.append(acquired(lock))
        return polls[-1]

    monkeypatch.setattr(latent_cache, "_acquired", polled)

    split = split_of(synthetic_dataset, space)
    latent_cache.cached(split, Accelerator(cpu=True), memory_limit_mb=4096, say=printed.append)
    os.close(other)

    assert printed[0] == f"waiting for another run that is encoding the same latents into {folder}"
    assert polls == [False, False, False, True]
    assert printed[1].startswith("encoding 20 examples of train") and len(printed) == 3


def fill_three_caches(root: Path, folder: Path) -> None:
    """In a separate process: a cache that is too large for the disk, one per process, and a shared one."""
    latent_shards.BYTES_PER_SHARD = PER_SHARD * 8 * 8 * 8 * 4
    rank, space, write = os.environ["RANK"], autoencoder(), LatentShard.write

    def full(self: LatentShard, parts: Any) -> None:
        if rank == "1":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, parts)

    def noted(self: LatentShard, parts: Any) -> None:
        write(self, parts)
        (folder / f"{self.path.name} by {rank}").touch()

    def attempt(name: str, cache: str, write: Callable[..., None]) -> None:
        os.environ["XDG_CACHE_HOME"] = str(folder / cache)
        LatentShard.write = write  # type: ignore[method-assign]
        try:
            found = cached(root, space)
            result = f"mean {found[range(NUM_EXAMPLES)][0].mean():.5f}"
        except UserError as error:
            result = f"{len(error.lines)} {error}"
        (folder / f"{name}-{rank}").write_text(result)

    attempt("full", "caches/full", full)
    attempt("elsewhere", f"caches/{rank}", write)
    attempt("shared", "caches/shared", noted)


@pytest.mark.slow
def test_two_processes_share_the_work_and_fail_together(synthetic_dataset: Path, tmp_path: Path) -> None:
    finished = two_processes(fill_three_caches, synthetic_dataset, tmp_path)

    assert finished.exit_codes == [0, 0], finished.output
    results = {
        name: [(tmp_path / f"{name}-{rank}").read_text() for rank in "01"] for name in ("full", "elsewhere", "shared")
    }
    assert (
        results["full"][0] == results["full"][1] and "cannot cache latents there (No space left" in results["full"][0]
    )
    assert results["elsewhere"][0] == results["elsewhere"][1]
    assert results["elsewhere"][0].startswith("1 ") and "though another process encoded it" in results["elsewhere"][0]
    assert results["shared"][0] == results["shared"][1] and results["shared"][0].startswith("mean ")
    by = sorted(path.name for path in tmp_path.glob("* by *"))
    assert by == [f"{number:05d}.latents by {number % 2}" for number in range(4)]
