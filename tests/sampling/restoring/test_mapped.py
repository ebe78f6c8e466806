"""Arrays in files instead of memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.disks import FullDiskError
from signal_diffusion.sampling.restoring.mapped import mapped
from tests.small_disk import SIZE


def test_what_is_written_to_the_array_is_in_the_file(tmp_path: Path) -> None:
    array = mapped(tmp_path / "a.npy", (2, 3), np.float64)
    assert not array.any()
    array[1] = 5.0
    del array
    assert np.load(tmp_path / "a.npy").tolist() == [[0.0] * 3, [5.0] * 3]


def test_an_array_that_does_not_fit_on_the_disk_is_an_error_before_it_is_written_to(small_disk: Path) -> None:
    with pytest.raises(FullDiskError, match=r"a\.npy: cannot write a part of the restored recording: the disk is full"):
        mapped(small_disk / "a.npy", (2, SIZE))
