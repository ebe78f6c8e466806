"""Draws of a whole recording: only what is missing is stored, however many draws there are."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from signal_diffusion.data.stretches import stretches
from signal_diffusion.sampling.restoring.mapped import mapped

__all__ = ["Draws", "Stored", "draws_on_disk", "incomplete"]


class Stored(Protocol):
    """Draws of the electrodes that are not complete: reads [draws, :, span] of (draws, these electrodes, samples)."""

    def __len__(self) -> int:
        """How many draws there are."""

    def __getitem__(self, key: tuple[slice, slice, slice], /) -> np.ndarray:
        """A part of some draws."""


class Draws:
    """Draws of a recording as one array (draws, electrodes, samples), µV, of which spans are read and written.

    Parameters
    ----------
    given
        What is given, µV (electrodes, samples).
    known
        Bool (electrodes, samples): where it is.
    stored
        Draws of the electrodes `incomplete(known)`; also where values are given, but these are not used.
    """

    def __init__(self, given: np.ndarray, known: np.ndarray, stored: Stored) -> None:
        self.count = len(stored)
        self._given, self._known, self._stored = given, known, stored
        self._rows = incomplete(known)

    @property
    def num_samples(self) -> int:
        """Samples of the recording."""
        return self._known.shape[1]

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The part [draws, :, span] of all electrodes, as a copy."""
        draws, _, span = key
        stored = self._stored[draws, :, span]
        window = np.repeat(self._given[None, :, span], len(stored), axis=0)
        window[:, self._rows] = np.where(self._known[self._rows, span], window[:, self._rows], stored)
        return window

    def __setitem__(self, key: tuple[slice, slice, slice], values: np.ndarray) -> None:
        """Write what is missing of a span [:, :, span]; only of draws on disk."""
        assert isinstance(self._stored, np.ndarray)
        missing = (~self._known[:, key[2]]).any(axis=0)
        for first, stop in stretches(missing):
            self._stored[:, :, key[2]][..., first:stop] = values[:, self._rows, first:stop]


def incomplete(known: np.ndarray) -> np.ndarray:
    """Electrodes of which values are missing."""
    return np.flatnonzero(~known.all(axis=1))


def draws_on_disk(path: Path, given: np.ndarray, known: np.ndarray, count: int) -> Draws:
    """So many draws in a new file, which has no data where nothing is missing in any electrode."""
    shape = (count, len(incomplete(known)), known.shape[1])
    return Draws(given, known, mapped(path, shape, used=(~known).any(axis=0)))
