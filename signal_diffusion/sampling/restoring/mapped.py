"""Arrays as long as a recording, in files instead of memory."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from signal_diffusion.data.stretches import stretches
from signal_diffusion.disks import writing

__all__ = ["mapped"]


def mapped(
    path: Path, shape: tuple[int, ...], dtype: type = np.float32, *, used: ArrayLike | None = None
) -> np.ndarray:
    """A new array of zeros in an .npy file.

    Its space is reserved, so that a full disk is an error now; a write to the memory map would crash the process.

    Parameters
    ----------
    used
        Which samples (the last axis) will be written; the others take no space. None = all.
    """
    spans = [(0, shape[-1])] if used is None else stretches(used)
    rows, item = math.prod(shape[:-1]), np.dtype(dtype).itemsize
    size = item * rows * sum(stop - first for first, stop in spans)
    with writing(path, "a part of the restored recording", needs=size):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # Linux
            with path.open("r+b") as file:
                start = path.stat().st_size - array.nbytes
                for row, (first, stop) in itertools.product(range(rows), spans):
                    offset = start + item * (row * shape[-1] + first)
                    os.posix_fallocate(file.fileno(), offset, item * (stop - first))
    return array
