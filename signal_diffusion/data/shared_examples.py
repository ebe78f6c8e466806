"""Find examples that are in two splits, by their contents."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = ["example_digests", "shared_examples"]


def example_digests(examples: np.ndarray) -> np.ndarray:
    """Hash of each example (n, C, H, W): (n,) uint64.

    It is 0 for an example that says nothing about its origin: each of its rows is constant, or a value is not finite,
    except in rows that are all NaN, of electrodes that are absent.
    """
    finite = (np.isfinite(examples).all(axis=3) | np.isnan(examples).all(axis=3)).all(axis=(1, 2))
    differs = (examples != examples[..., :1]) & ~np.isnan(examples)
    varied = finite & differs.any(axis=(1, 2, 3))
    found = np.zeros(len(examples), dtype=np.uint64)
    for index in np.flatnonzero(varied):
        digest = hashlib.blake2b(examples[index].tobytes(), digest_size=8).digest()
        found[index] = int.from_bytes(digest, "little")
    return found


def shared_examples(digests: Mapping[str, Mapping[str, Sequence[np.ndarray]]]) -> Iterator[str]:
    """Yield a complaint for each pair of splits with the same examples; `digests` is split → file → those of rows."""
    rows = {split: _rows(files) for split, files in digests.items()}
    for (one, (known, places)), (other, (seen, others)) in itertools.combinations(rows.items(), 2):
        common = np.setdiff1d(np.intersect1d(known, seen), [0])
        if not len(common):
            continue
        copies = np.flatnonzero(np.isin(seen, common))
        origin = int(np.flatnonzero(known == seen[copies[0]])[0])
        yield (
            f"{other}: {len(copies)} examples have the same values as examples of {one}, the first is "
            f"{_place(others, int(copies[0]))}, as {_place(places, origin)}; expected each example in one split"
        )


def _rows(files: Mapping[str, Sequence[np.ndarray]]) -> tuple[np.ndarray, list[tuple[str, int]]]:
    """All digests of a split, and each file with the number of its first row."""
    parts = {name: np.concatenate([np.zeros(0, dtype=np.uint64), *found]) for name, found in files.items()}
    starts = np.cumsum([0, *map(len, parts.values())])
    every = np.concatenate([np.zeros(0, dtype=np.uint64), *parts.values()])
    return every, list(zip(parts, map(int, starts), strict=False))


def _place(files: Sequence[tuple[str, int]], row: int) -> str:
    name, start = next((name, start) for name, start in reversed(files) if start <= row)
    return f"row {row - start} of {name}"
