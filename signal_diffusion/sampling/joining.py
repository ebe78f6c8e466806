"""Join what is generated to what is given, without a jump.

A network does not see given values exactly, so what it generates next to them is a little off. Therefore the given
values next to missing ones are not given to it: it generates them again, consistent with what is missing. Where they
differ from what is given, the difference is continued as an autoregression continues it, and added to what is missing.
If signals are an autoregressive Gaussian process and a network samples it, the result is a sample of what is missing
given what is there (Matheron's rule, Wilson et al. 2020, https://arxiv.org/abs/2002.09309). Nothing is averaged, so no
power is lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csc_array, diags_array
from scipy.sparse.linalg import spsolve

from signal_diffusion.data.stretches import stretches

__all__ = ["autoregression", "generated_again", "joined"]

ORDER = 32
"""Order of the autoregression, and samples that are generated again on each side: 320 ms at 100 Hz. Less in windows of
less than 12 times as many samples, of less than 20 times as many given values, or next to less than twice as many."""
LEAST_ORDER = 8
"""With less, nothing is joined: an autoregression would say too little of EEG."""
NOISE = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)
"""Of the signals that an autoregression is fitted to: the first with which no difference grows too much."""
MOST_GROWTH = 2.0
"""A difference may grow to so many times its largest value. What is continued of a process does not grow, but an
autoregression of signals that lack frequencies (low-passed, or sines) blows up differences that have them."""


def generated_again(known: np.ndarray, window: int) -> np.ndarray:
    """Which given values are not given to the network, bool like `known` (electrodes, at most `window` samples)."""
    found, order = np.zeros_like(known), _order(known, window)
    for rows, row in _alike(known):
        for first, stop in stretches(row):
            count = min(order, (stop - first) // 2)
            if first > 0:
                found[rows, first : first + count] = True
            if stop < len(row):
                found[rows, stop - count : stop] = True
    return found


def joined(values: np.ndarray, known: np.ndarray, generated: np.ndarray, again: np.ndarray) -> np.ndarray:
    """A window (draws, electrodes, samples): what is given, and what is generated where it is missing, joined to it.

    Parameters
    ----------
    values
        What is given where `known` (electrodes, samples).
    generated
        From a network that was given the values except those `again`, see `generated_again`.
    """
    found = np.where(known, values, generated)
    difference = np.where(again, values - generated, 0.0)
    alike, samples = list(_alike(known)), known.shape[-1]
    for draw, window in enumerate(found if again.any() else ()):
        given = [values[draw, rows, first:stop] for rows, row in alike for first, stop in stretches(row)]
        parts = [(rows, row) for rows, row in alike if again[rows].any()]
        largest = MOST_GROWTH * np.abs(difference[draw]).max()
        for noise in NOISE:
            precision = _precision(autoregression(given, _order(known, samples), noise), samples)
            added = [_continued(difference[draw, rows], ~row, precision) for rows, row in parts]
            if not any(np.abs(each).max(initial=0) > largest for each in added):
                break
        for (rows, row), each in zip(parts, added, strict=True):
            window[np.ix_(rows, np.flatnonzero(~row))] += each
    return found


def autoregression(signals: Sequence[np.ndarray], order: int, noise: float = 0.0) -> np.ndarray:
    """Coefficients of x[t − 1], x[t − 2], … of several signals (electrodes, samples), (order,).

    By Burg's method, so they are stable. All electrodes have the same, so that linear relations between them are kept,
    such as an average reference. The signals get white noise, of so many times their root mean square.
    """
    parts = [part - part.mean(-1, keepdims=True) for part in signals if part.shape[-1] > order]
    if noise and parts:
        size = noise * np.sqrt(sum(np.sum(part**2) for part in parts) / sum(part.size for part in parts))
        random = np.random.default_rng(0)
        parts = [part + size * random.standard_normal(part.shape) for part in parts]
    forward = backward = [part.astype(np.float64) for part in parts]
    coefficients = np.zeros(0)
    for _ in range(order):
        forward, backward = [x[:, 1:] for x in forward], [x[:, :-1] for x in backward]
        power = sum((np.sum(x**2 + y**2) for x, y in zip(forward, backward, strict=True)), np.finfo(float).tiny)
        reflection = 2 * sum(np.sum(x * y) for x, y in zip(forward, backward, strict=True)) / power
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        pairs = list(zip(forward, backward, strict=True))
        forward, backward = [x - reflection * y for x, y in pairs], [y - reflection * x for x, y in pairs]
    return coefficients


def _precision(coefficients: np.ndarray, samples: int) -> csc_array | None:
    """The inverse of the covariance of so many samples of an autoregression whose innovations have variance 1.

    From Siddiqui 1958, Ann. Math. Stat. 29. None if the coefficients are not finite.
    """
    if not np.isfinite(coefficients).all():
        return None
    lags, size = np.arange(1, len(coefficients) + 1), (samples, samples)
    errors = diags_array([1.0, *-coefficients], offsets=[0, *-lags], shape=size).tocsc()
    ends = diags_array([*-coefficients], offsets=[*lags - samples], shape=size).tocsc()
    return (errors @ errors.T - ends @ ends.T).tocsc()


def _continued(signals: np.ndarray, absent: np.ndarray, precision: csc_array | None) -> np.ndarray:
    """The mean of the `absent` samples given the others of signals (electrodes, samples), (electrodes, absent)."""
    if precision is None:
        return np.full((len(signals), np.count_nonzero(absent)), np.nan)
    of_absent = precision[absent]
    rest = of_absent[:, ~absent] @ signals[:, ~absent].T
    return -spsolve(of_absent[:, absent], rest).reshape(rest.shape).T


def _order(known: np.ndarray, window: int) -> int:
    order = min(ORDER, window // 12, int(np.count_nonzero(known)) // 20)
    return order if order >= LEAST_ORDER else 0


def _alike(known: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Electrodes of which the same samples are given, and which these are."""
    patterns, number = np.unique(known, axis=0, return_inverse=True)
    for index, row in enumerate(patterns):
        yield np.flatnonzero(number == index), row
