"""Keep features that take seconds in the cache, by the hash of the signals and of the code that computes them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from signal_diffusion.evaluation.stored_spectrograms import Spectrograms
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.paths import cache_folder

__all__ = ["from_cache", "key_of", "key_of_spectrograms"]

CODE = (
    *("features.py", "learned.py", "per_spectrogram.py", "per_window.py", "random_kernels.py"),
    "utility/eegnet.py",
)
READ = 32
"""Windows whose spectrograms are read at a time."""


def key_of(windows: Windows) -> str:
    """Hash of all that features depend on."""
    found = hashlib.sha256(_code_digest().encode())
    found.update(f"{windows.sfreq!r} {windows.signals.shape}".encode())
    found.update(np.ascontiguousarray(windows.signals).data)
    return found.hexdigest()[:32]


def key_of_spectrograms(stored: Spectrograms, key: str) -> str:
    """Hash of all that features of spectrograms depend on; `key` is that of the signals."""
    found = hashlib.sha256(f"{key} {stored.representation!r} {stored.rows.shape}".encode())
    for start in range(0, len(stored), READ):
        found.update(np.ascontiguousarray(stored.read(start, start + READ).numpy()).data)
    return found.hexdigest()[:32]


def from_cache(key: str, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """A feature from the cache; computed and stored there if it is missing or damaged."""
    path = cache_folder("", "evaluation") / f"{key}-{name}.npy"
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        pass
    values = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            np.save(file, values)
        unfinished.replace(path)
    except OSError:  # a full disk: the values are computed anyway
        unfinished.unlink(missing_ok=True)
    return values


@cache
def _code_digest() -> str:
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in CODE)).hexdigest()
