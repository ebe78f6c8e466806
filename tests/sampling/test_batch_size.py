"""Batch sizes that fit into memory."""

from __future__ import annotations

import pytest

from signal_diffusion.errors import UserError
from signal_diffusion.sampling.batch_size import BatchSize


def limited(*, batch_size: int) -> int:
    """Run out of memory above 40 samples, with CUDA's message."""
    if batch_size > 40:
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    return batch_size


def test_an_automatic_batch_size_is_halved_permanently_until_it_fits() -> None:
    batch = BatchSize(None, shape=(1, 64, 64), device="cuda", most=1000)
    assert batch.size == 250
    assert batch.fit(limited) == 31
    assert batch.size == 31


@pytest.mark.parametrize(
    ("shape", "device", "most", "size"),
    [
        ((1, 64, 64), "cpu", 1000, 63),
        ((1, 64, 64), "cpu", 65, 33),
        ((1, 64, 64), "cpu", 5, 5),
        ((3, 1024, 1024), "cpu", 9, 1),
    ],
)
def test_an_automatic_batch_size_divides_the_samples_evenly(
    shape: tuple[int, ...], device: str, most: int, size: int
) -> None:
    assert BatchSize(None, shape=shape, device=device, most=most).size == size


def test_a_requested_batch_size_is_not_changed() -> None:
    batch = BatchSize(50, shape=(1, 64, 64), device="cuda", most=10)
    with pytest.raises(UserError, match="--batch-size 50: not enough memory; use a smaller one, or auto"):
        batch.fit(limited)
    assert batch.size == 50


def test_other_cuda_errors_are_raised_unchanged() -> None:
    def broken(*, batch_size: int) -> int:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        BatchSize(None, shape=(1, 64, 64), device="cuda", most=10).fit(broken)


def test_processes_share_the_same_batches_however_many_they_are() -> None:
    batch = BatchSize(None, shape=(1, 64, 64), device="cuda", most=150)
    assert batch.shared(150) == [slice(0, 64), slice(64, 128), slice(128, 150)]
    assert batch.shared(0) == []
