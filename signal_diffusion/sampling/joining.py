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
from scipy.sparse import diags_array
from scipy.sparse.linalg import spsolve

from signal_diffusion.data.stretches import stretches

__all__ = ["autoregression", "generated_again", "joined"]

ORDER = 32
"""Order of the autoregression, and samples that are generated again on each side: 320 ms at 100 Hz. Less in windows of
less than 12 times as many samples, of less than 20 times as many given values, or next to less than twice as many."""
LEAST_ORDER = 8
"""With less, nothing is joined: an autoregression would say too little of EEG."""


def generated_again(known: np.ndarray, window: int) -> np.ndarray:
    """Which given values are not given to the network, bool like `known` (electrodes, at most `window` samples)."""
    found = np.zeros_like(known)
    for rows, row in _alike(known):
        for first, stop in stretches(row):
            count = min(_order(known, window), (stop - first) // 2)
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
    alike = list(_alike(known))
    for draw, window in enumerate(found if again.any() else ()):
        given = [values[draw, rows, first:stop] for rows, row in alike for first, stop in stretches(row)]
        coefficients = autoregression(given, _order(known, known.shape[-1]))
        for rows, row in alike:
            if again[rows].any():
                missing = np.ix_(rows, np.flatnonzero(~row))
                window[missing] += _continued(difference[draw, rows], ~row, coefficients)
    return found


def autoregression(signals: Sequence[np.ndarray], order: int) -> np.ndarray:
    """Coefficients of x[t − 1], x[t − 2], … of several signals (electrodes, samples), (order,).

    By Burg's method, so they are stable. All electrodes have the same, so that linear relations between them are kept,
    such as an average reference.
    """
    parts = [part - part.mean(-1, keepdims=True) for part in signals if part.shape[-1] > order]
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


def _continued(signals: np.ndarray, absent: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """What an autoregression makes of signals (electrodes, samples) in the `absent` samples, (electrodes, absent).

    Their mean given the others, from the inverse of the covariance of all samples (Siddiqui 1958, Ann. Math. Stat. 29).
    """
    if not np.isfinite(coefficients).all():
        return np.full((len(signals), np.count_nonzero(absent)), np.nan)
    samples, lags = signals.shape[-1], np.arange(1, len(coefficients) + 1)
    size = (samples, samples)
    errors = diags_array([1.0, *-coefficients], offsets=[0, *-lags], shape=size).tocsc()
    ends = diags_array([*-coefficients], offsets=[*lags - samples], shape=size).tocsc()
    of_absent = (errors @ errors.T - ends @ ends.T).tocsc()[absent]
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
