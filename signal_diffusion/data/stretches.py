"""The stretches in which a mask is true."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["stretches"]


def stretches(mask: ArrayLike) -> list[tuple[int, int]]:
    """First sample and end of each stretch of true values in a mask (samples,), in order."""
    edges = np.flatnonzero(np.diff(np.asarray(mask, np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
