"""Seams in long recordings: are signals at the borders of windows as they are elsewhere?

A recording of windows that do not continue each other jumps at their borders; one of windows that were faded into each
other has less power there. What real recordings have at places that are no borders is the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy import fft, signal

__all__ = ["Seams", "seam_floor", "seams"]

AROUND = 0.25
"""The envelope is compared up to this many seconds before and after a border."""
SEGMENT = 1.0
"""Length of the segments whose spectra are compared, s: Hann, centred at borders, and elsewhere without any border."""
JUDGED = (1.0, 45.0)
"""Frequencies of the spectra, Hz."""
SMALLEST = 1e-12
"""µV², added to powers before their logarithm."""


@dataclass(frozen=True, kw_only=True)
class Seams:
    """How borders differ from elsewhere; mean over electrodes."""

    jump: float
    """Mean |x[b] − x[b − 1]| at borders b ÷ that of all other neighbouring samples; 1 without seams."""
    envelope: float
    """Mean Hilbert envelope within `AROUND` of borders ÷ elsewhere; 1 without seams."""
    spectrum: float
    """dB: root mean square over electrodes and 1 to 45 Hz of the difference between the mean spectra of segments at
    borders and elsewhere. It is larger than 0 for few segments, also without seams."""


def seams(signals: np.ndarray, borders: Sequence[int], sfreq: float) -> Seams:
    """Compare signals at borders with elsewhere.

    Parameters
    ----------
    signals
        Recordings, (N, electrodes, samples), in µV.
    borders
        First samples of windows that continue the one before, at least half a second from both ends.
    sfreq
        Sampling rate, Hz.
    """
    return _combined([_Parts(recording, sfreq).at(np.asarray(borders)) for recording in signals])


def seam_floor(
    real: np.ndarray, borders: Sequence[int], sfreq: float, *, count: int, repeats: int = 200, seed: int = 0
) -> tuple[Seams, Seams]:
    """The 2.5 and 97.5 percentiles of `seams` of `count` real recordings, which have no borders.

    Each repeat draws recordings with replacement, and shifts the borders in each by a random number of samples, as if
    the recording, without a segment at both ends, were a circle.

    Parameters
    ----------
    real
        Real recordings, (N, electrodes, samples), in µV, as long as the generated ones.
    borders
        Those of the generated recordings.
    count
        Number of generated recordings.
    """
    random, parts = np.random.default_rng(seed), [_Parts(recording, sfreq) for recording in real]
    samples, margin = real.shape[-1], round(SEGMENT * sfreq)
    found = []
    for _ in range(repeats):
        drawn = []
        for number in random.integers(len(parts), size=count):
            shift = random.integers(samples)
            drawn.append(parts[number].at(margin + (np.asarray(borders) + shift) % (samples - 2 * margin)))
        found.append(astuple(_combined(drawn)))
    low, high = np.percentile(found, (2.5, 97.5), axis=0)
    names = ("jump", "envelope", "spectrum")
    return (
        Seams(**dict(zip(names, low.tolist(), strict=True))),
        Seams(**dict(zip(names, high.tolist(), strict=True))),
    )


@dataclass(frozen=True)
class _Sums:
    """Sums of a quantity at borders and elsewhere, (electrodes, *), and their numbers of values."""

    at: np.ndarray
    num_at: int
    elsewhere: np.ndarray
    num_elsewhere: int

    @classmethod
    def of(cls, values: np.ndarray, at: np.ndarray, elsewhere: np.ndarray) -> _Sums:
        """Sums of values (electrodes, positions, *) over two sets of positions, (positions,) bool."""
        return cls(values[:, at].sum(1), int(at.sum()), values[:, elsewhere].sum(1), int(elsewhere.sum()))


class _Parts:
    """Jumps, envelope and spectra of a recording (electrodes, samples), each at all positions."""

    def __init__(self, recording: np.ndarray, sfreq: float) -> None:
        x = recording.astype(np.float64)
        x -= x.mean(-1, keepdims=True)
        self._x, self._sfreq, self._samples = x, sfreq, x.shape[-1]
        self._jumps = np.abs(np.diff(x))
        self._envelope = np.abs(signal.hilbert(x))

    def at(self, borders: np.ndarray) -> tuple[_Sums, _Sums, _Sums]:
        """Sums of jumps, envelope and spectra at borders and elsewhere."""
        length = round(SEGMENT * self._sfreq)
        at_jump = np.isin(np.arange(1, self._samples), borders)
        near = _distance(np.arange(self._samples), borders) < AROUND * self._sfreq
        middles = np.arange(length, self._samples - length, length // 4)
        free = middles[_distance(middles, borders) > length / 2]
        centres = np.concatenate([borders, free])
        is_border = np.arange(len(centres)) < len(borders)
        spectra = self._spectra(centres, length)
        return (
            _Sums.of(self._jumps, at_jump, ~at_jump),
            _Sums.of(self._envelope, near, ~near),
            _Sums.of(spectra, is_border, ~is_border),
        )

    def _spectra(self, centres: np.ndarray, length: int) -> np.ndarray:
        """Power of segments around centres at the judged frequencies, (electrodes, centres, F)."""
        frequencies = fft.rfftfreq(length, 1 / self._sfreq)
        judged = (frequencies >= JUDGED[0]) & (frequencies <= JUDGED[1])
        segments = self._x[:, centres[:, None] + np.arange(length) - length // 2]  # (electrodes, centres, length)
        segments = (segments - segments.mean(-1, keepdims=True)) * signal.windows.hann(length, sym=False)
        return np.abs(fft.rfft(segments)[..., judged]) ** 2


def _distance(positions: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """Samples from each position to the nearest border."""
    return np.abs(positions[:, None] - borders).min(1, initial=2**62)


def _combined(recordings: Sequence[tuple[_Sums, _Sums, _Sums]]) -> Seams:
    """Seams of some recordings together."""
    (jump, jump_else), (envelope, envelope_else), (power, power_else) = (
        (
            sum(each.at for each in sums) / sum(each.num_at for each in sums),
            sum(each.elsewhere for each in sums) / sum(each.num_elsewhere for each in sums),
        )
        for sums in zip(*recordings, strict=True)
    )
    decibels = 10 * (np.log10(power + SMALLEST) - np.log10(power_else + SMALLEST))
    return Seams(
        jump=float((jump / jump_else).mean()),
        envelope=float((envelope / envelope_else).mean()),
        spectrum=float(np.sqrt((decibels**2).mean())),
    )
