"""Draws of a whole recording on disk: only what is missing is stored, however many draws there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["Draws"]


class Draws:
    """Draws of a recording as one array (draws, electrodes, samples), µV, of which spans are read and written.

    Of electrodes that are complete, nothing is stored; of the others a file without data where nothing is missing.

    Parameters
    ----------
    path
        File to write.
    given
        What is given, µV (electrodes, samples).
    known
        Bool (electrodes, samples): where it is.
    """

    def __init__(self, path: Path, given: np.ndarray, known: np.ndarray, count: int) -> None:
        self.count = count
        self._given, self._known = given, known
        self._rows = np.flatnonzero(~known.all(axis=1))
        self._stored = np.lib.format.open_memmap(
            path, mode="w+", dtype=np.float32, shape=(count, len(self._rows), known.shape[1])
        )

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The part [draws, :, span] of all electrodes, as a copy."""
        draws, _, span = key
        stored = self._stored[draws, :, span]
        window = np.repeat(self._given[None, :, span], len(stored), axis=0)
        window[:, self._rows] = np.where(self._known[self._rows, span], window[:, self._rows], stored)
        return window

    def __setitem__(self, key: tuple[slice, slice, slice], values: np.ndarray) -> None:
        """Write what is missing of a span [:, :, span]."""
        self._stored[:, :, key[2]] = values[:, self._rows]
