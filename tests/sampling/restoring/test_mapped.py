"""Arrays in files instead of memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from signal_diffusion.disks import FullDiskError
from signal_diffusion.sampling.restoring.draws import draws_on_disk
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


def test_samples_that_are_not_used_take_no_space(tmp_path: Path) -> None:
    samples = 2**20
    used = np.zeros(samples, bool)
    used[1000:2000] = True

    array = mapped(tmp_path / "a.npy", (2, 3, samples), used=used)

    assert array.shape == (2, 3, samples)
    assert 6 * 4 * 1000 <= 512 * (tmp_path / "a.npy").stat().st_blocks < 6 * 4 * 20_000


def test_draws_that_do_not_fit_on_the_disk_are_an_error_before_they_are_made(small_disk: Path) -> None:
    known = np.ones((3, SIZE), bool)
    known[1] = False

    with pytest.raises(
        FullDiskError, match=r"draws\.npy: cannot write a part of the restored recording: the disk is full"
    ):
        draws_on_disk(small_disk / "draws.npy", np.zeros((3, SIZE)), known, 2)
