"""Join a window to the signals that it continues, without a jump.

A network does not see given values exactly, so what it generates begins a little off. Therefore the last samples before
a window are not given to it: it generates them again, consistent with what follows. Where they differ from what is
there, the difference is continued as an autoregression continues it, and added to what follows. If signals are an
autoregressive Gaussian process and a network samples it, this is a sample of what follows given what is there
(Matheron's rule, Wilson et al. 2020, https://arxiv.org/abs/2002.09309). Nothing is averaged, so no power is lost.
"""

from __future__ import annotations

import numpy as np

__all__ = ["autoregression", "joined", "overlap_of"]

ORDER = 8
"""Order of the autoregression, and samples that are generated again; 80 ms at 100 Hz."""


def overlap_of(window: int, before: int) -> int:
    """How many samples to generate again in a window, before which there are so many samples in all."""
    return min(ORDER, window // 16, before // 4)


def joined(before: np.ndarray, generated: np.ndarray, overlap: int) -> np.ndarray:
    """What follows `before`, (draws, electrodes, samples − overlap).

    Parameters
    ----------
    before
        What is there, (draws, electrodes, n), the more the better.
    generated
        Window from a network, (draws, electrodes, samples), which begins with the last `overlap` samples of `before`.
    """
    if not overlap:
        return generated
    difference = before[..., -overlap:] - generated[..., :overlap]
    following = generated[..., overlap:]
    return following + _continued(difference, autoregression(before, overlap), following.shape[-1])


def autoregression(signals: np.ndarray, order: int) -> np.ndarray:
    """Coefficients of x[t − 1], x[t − 2], … for each draw of signals (draws, electrodes, samples), (draws, order).

    By Burg's method, so they are stable. All electrodes have the same, so that linear relations between them are kept,
    such as an average reference.
    """
    forward = backward = signals.astype(np.float64) - signals.mean(-1, keepdims=True)
    coefficients = np.zeros((len(signals), 0))
    for _ in range(order):
        forward, backward = forward[..., 1:], backward[..., :-1]
        power = (forward**2 + backward**2).sum((1, 2)) + np.finfo(float).tiny
        reflection = 2 * (forward * backward).sum((1, 2)) / power  # (draws,)
        coefficients = np.column_stack([coefficients - reflection[:, None] * coefficients[:, ::-1], reflection])
        each = reflection[:, None, None]
        forward, backward = forward - each * backward, backward - each * forward
    return coefficients


def _continued(signals: np.ndarray, coefficients: np.ndarray, samples: int) -> np.ndarray:
    """What an autoregression without noise makes of signals (draws, electrodes, order) in the next samples."""
    order = signals.shape[-1]
    found = np.concatenate([signals, np.zeros((*signals.shape[:-1], samples))], axis=-1)
    newest_last = coefficients[:, None, ::-1]
    for at in range(order, order + samples):
        found[..., at] = (newest_last * found[..., at - order : at]).sum(-1)
    return found[..., order:]
