"""Arrays as long as a recording, in files instead of memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from signal_diffusion.disks import writing

__all__ = ["mapped"]


def mapped(path: Path, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """A new array of zeros in an .npy file.

    Its space is reserved, so that a full disk is an error now; a write to the memory map would crash the process.
    """
    size = np.dtype(dtype).itemsize * int(np.prod(shape))
    with writing(path, "a part of the restored recording", needs=size):
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):  # Linux
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array
