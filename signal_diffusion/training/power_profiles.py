"""Averages of the weights by a power function of time, and how any of them follows from others.

An average of exponent γ over n optimizer steps has the profile p(s) = (γ + 1) s^γ / n^(γ + 1): how much the weights of
time s, 0 ≤ s ≤ n, contribute. Its width σ_rel is the standard deviation of s, relative to n.

Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models",
https://arxiv.org/abs/2312.02696, section 3 and the appendix on post-hoc EMA.
"""

from __future__ import annotations

import numpy as np

__all__ = ["MAX_SIGMA_REL", "exponent_of", "fit"]

MAX_SIGMA_REL = 12**-0.5
"""σ_rel of γ = 0, the plain mean of all steps."""


def exponent_of(sigma_rel: float) -> float:
    """The exponent γ ≥ 0 of σ_rel = sqrt((γ + 1) / ((γ + 2)² (γ + 3))), for 0 < σ_rel ≤ `MAX_SIGMA_REL`."""
    inverse = sigma_rel**-2
    return max(0.0, float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max()))


def fit(ends: np.ndarray, exponents: np.ndarray, *, end: float, exponent: float) -> tuple[np.ndarray, float]:
    """Combine averages to approximate another one by least squares of the profiles.

    Unlike in the paper, the coefficients have to sum to 1, as the profiles do. A sum that is only nearly 1 scales the
    weights; with ten snapshots of a run, that made the error of the weights ten times larger.

    Parameters
    ----------
    ends, exponents
        Number of steps and exponent of each average, (N,).
    end, exponent
        Those of the average that is wanted; `end` is at least the largest of `ends`.

    Returns
    -------
    tuple[np.ndarray, float]
        The coefficients (N,), and the norm of the difference of the profiles relative to that of the wanted one.
    """
    times = ends / end
    products = _product(times[:, None], exponents[:, None], times, exponents)  # (N, N)
    wanted = _product(times, exponents, np.ones(()), np.asarray(exponent))  # (N,)
    count = len(times)
    system = np.ones((count + 1, count + 1))  # of the Lagrange function
    system[:count, :count], system[count, count] = products, 0.0
    coefficients = np.linalg.lstsq(system, np.append(wanted, 1.0), rcond=1e-14)[0][:count]
    norm = _product(np.ones(()), np.asarray(exponent), np.ones(()), np.asarray(exponent))
    left = coefficients @ products @ coefficients - 2 * coefficients @ wanted + norm
    return coefficients, float(np.sqrt(max(0.0, left) / norm))


def _product(ends: np.ndarray, exponents: np.ndarray, others: np.ndarray, their: np.ndarray) -> np.ndarray:
    """The integral of the product of two profiles over time."""
    later = np.maximum(ends, others)
    ratio = np.minimum(ends, others) / later
    power = np.where(ends < others, their, exponents)  # of the profile that ends later
    return (exponents + 1) * (their + 1) * ratio**power / ((exponents + their + 1) * later)
