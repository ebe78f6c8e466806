"""Spectrograms of windows as they are stored: they may have faults that the signals made from them do not have.

The nearest signal of an impossible spectrogram is a possible one, and the decibels of db-iq and db-polar do not matter
to it at all.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.mosaic import Mosaic
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.spectrogram import Spectrogram

__all__ = ["Spectrograms", "spectrograms_in", "spectrograms_of"]


class Examples(Protocol):
    """Examples (n, planes, rows, columns) that are read row by row: an array, or a column on disk."""

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class Spectrograms:
    """Spectrograms of N windows, read when they are needed, and the card that says what their axes are."""

    examples: Examples
    rows: np.ndarray
    """Rows of `examples` that are the electrodes of each window, (N, electrodes); (N, 1) for mosaics."""
    card: DatasetCard

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.rows)

    @cached_property
    def representation(self) -> Spectrogram:
        """What planes, rows and columns are."""
        found = representation_of(self.card)
        assert isinstance(found, Spectrogram)
        return found

    @property
    def frequencies(self) -> np.ndarray:
        """Frequencies of the rows, ascending, Hz."""
        return self.representation.transform.frequencies.numpy()

    def take(self, windows: np.ndarray) -> Self:
        """Spectrograms of some windows, without reading any."""
        return dataclasses.replace(self, rows=self.rows[windows])

    def pick(self, electrodes: list[int]) -> Self | None:
        """Spectrograms of some electrodes, in this order; None of mosaics, which have all electrodes in one image."""
        if not self.representation.per_electrode:
            return None
        return dataclasses.replace(self, rows=self.rows[:, electrodes])

    def single(self) -> Self:
        """Each electrode of each window as a window of its own."""
        return dataclasses.replace(self, rows=self.rows.reshape(-1, 1))

    def of_signals(self, signals: np.ndarray) -> Self:
        """Spectrograms of other signals, µV (N, electrodes, samples), computed when they are read."""
        examples = _OfSignals(self.representation, signals)
        return dataclasses.replace(self, examples=examples, rows=np.arange(self.rows.size).reshape(self.rows.shape))

    def read(self, start: int, stop: int) -> Tensor:
        """Images of windows `start` to `stop`, float32, (n · electrodes, planes, rows, columns); (n, …) for mosaics."""
        return torch.from_numpy(np.asarray(self.examples[self.rows[start:stop].ravel()], np.float32))

    def by_electrode(self, images: Tensor) -> Tensor:
        """Images (n · electrodes, *, rows, columns), or mosaics (n, …), as (n, electrodes, *, rows, columns)."""
        transform = self.representation.transform
        if isinstance(transform, Mosaic):
            return images[..., : transform.columns].unflatten(-1, (transform.electrodes, -1)).movedim(-2, 1)
        return images.unflatten(0, (-1, self.rows.shape[1]))


def spectrograms_of(card: DatasetCard, examples: Examples, rows: np.ndarray) -> Spectrograms | None:
    """The spectrograms of windows, whose examples are in `rows`, (N,) or (N, electrodes); None of other examples."""
    if not isinstance(representation_of(card), Spectrogram):
        return None
    return Spectrograms(examples=examples, rows=rows.reshape(len(rows), -1), card=card)


def spectrograms_in(card: DatasetCard, tensors: np.ndarray | None) -> Spectrograms | None:
    """The spectrograms in tensors (N, C, H, W) or (N, electrodes, C, H, W); None of other tensors, and of none."""
    if tensors is None:
        return None
    rows = np.arange(math.prod(tensors.shape[:-3])).reshape(len(tensors), -1)
    return spectrograms_of(card, tensors.reshape(-1, *tensors.shape[-3:]), rows)


class _OfSignals:
    """Examples that are computed from signals."""

    def __init__(self, representation: Spectrogram, signals: np.ndarray) -> None:
        self._representation = representation
        self._signals = signals.reshape(-1, signals.shape[-1]) if representation.per_electrode else signals

    def __getitem__(self, rows: np.ndarray, /) -> np.ndarray:
        return self._representation.to_tensor(torch.from_numpy(self._signals[rows])).numpy()
