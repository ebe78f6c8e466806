"""A restored recording at its own rate: what was given at that rate, and in it what was restored, resampled."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import scipy.signal

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.filters import anti_aliasing
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.sampling.restoring.draws import Draws, incomplete
from signal_diffusion.sampling.restoring.given import read_given
from signal_diffusion.sampling.restoring.plan import Plan
from signal_diffusion.sampling.restoring.result import Restoration

__all__ = ["Resampled", "at_recorded_rate", "given_at_recorded_rate"]


class Resampled:
    """Draws resampled to a higher rate when they are read, part by part, with the same values as the whole at once.

    The signal that is resampled is that of the draws with what was given. The last given values before a gap may be
    later than the last that the model saw, so within a sample of the model from its ends, it is bent to meet these.

    Parameters
    ----------
    draws
        At the lower rate.
    ratio
        The higher rate ÷ the lower.
    given, known
        As in `Draws`, at the higher rate.
    """

    def __init__(self, draws: Draws, ratio: Fraction, given: np.ndarray, known: np.ndarray) -> None:
        self._draws, self._ratio, self._given, self._known = draws, ratio, given, known
        self._rows = incomplete(known)
        kernel = anti_aliasing(ratio)
        # With zeros before it, its delay is a whole number of samples.
        self._kernel = np.pad(kernel, (-(len(kernel) // 2) % ratio.denominator, 0))
        self._delay = (len(self._kernel) - len(kernel) // 2 - 1) // ratio.denominator

    def __len__(self) -> int:
        return self._draws.count

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        """The part [draws, :, span] of the electrodes that are not complete, as a copy."""
        total, reach = self._known.shape[1], math.ceil(self._ratio)
        begin, end, _ = key[2].indices(total)
        first, last = max(0, begin - reach), min(total, end + reach)
        signals = self._resampled(key[0], first, last)
        known = self._known[self._rows, first:last]
        off = np.where(known, self._given[self._rows, first:last] - signals, 0)
        some, length = np.asarray(known.any(axis=0)), float(self._ratio)
        signals += _faded(off, some, length) + _faded(off[..., ::-1], some[::-1], length)[..., ::-1]
        return signals[..., begin - first : end - first].astype(np.float32)

    def _resampled(self, draws: slice, begin: int, end: int) -> np.ndarray:
        """The samples from `begin` to `end` (draws, electrodes, samples)."""
        up, down = self._ratio.numerator, self._ratio.denominator
        margin = math.ceil(len(self._kernel) / 2 / up)
        # Start at a sample that both rates share.
        start, stop = down * (begin // up - math.ceil(margin / down)), math.ceil(end * down / up) + margin
        first, last = max(0, start), min(self._draws.num_samples, stop)
        signals = self._draws[draws, :, first:last][:, self._rows]
        # Beyond its ends, the recording is continued by odd reflection, as when it was read.
        ends = ((0, 0), (0, 0), (first - start, stop - last))
        signals = np.pad(signals.astype(np.float64), ends, mode="reflect", reflect_type="odd")
        resampled = scipy.signal.upfirdn(self._kernel, signals, up, down, axis=-1)
        offset = begin - start * up // down + self._delay
        return resampled[..., offset : offset + end - begin]


def _faded(off: np.ndarray, known: np.ndarray, length: float) -> np.ndarray:
    """Values (…, samples) where nothing is known: the last known ones, faded to 0 within `length` samples."""
    indices = np.arange(len(known))
    before = np.maximum.accumulate(np.where(known, indices, -math.ceil(length)))
    weights = np.where(known, 0, np.clip(1 - (indices - before) / length, 0, 1))
    return off[..., np.maximum(before, 0)] * weights


def given_at_recorded_rate(
    recording: Recording, plan: Plan, card: DatasetCard, folder: Path, *, units: str | None = None
) -> np.ndarray:
    """What is given, prepared as `read_given` does except that it is not resampled, as a memory map in `folder`."""
    own = folder / "recorded"
    own.mkdir()
    return read_given(recording, plan.at_recorded_rate(), card, own, units=units, warns=False)[0]


def at_recorded_rate(restoration: Restoration, given: np.ndarray) -> Restoration:
    """A restoration at the recording's own rate, for what was given at that rate, µV (channels, samples)."""
    plan = restoration.plan
    own = plan.at_recorded_rate()
    known = own.known(given.shape[1] - own.extension)
    values = Draws(given, known, Resampled(restoration.values, plan.ratio, given, known))
    return replace(restoration, plan=own, known=known, values=values, resampled_from=restoration)
