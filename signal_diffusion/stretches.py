"""The stretches in which a mask is true."""

from __future__ import annotations

import numpy as np

__all__ = ["stretches"]


def stretches(mask: np.ndarray) -> list[tuple[int, int]]:
    """First sample and end of each stretch of true values in a mask (samples,), in order."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))
