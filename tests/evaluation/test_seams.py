"""Seams: found where windows do not continue each other or are faded, and not in signals without borders."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from signal_diffusion.evaluation.seams import seam_floor, seams

SFREQ, LENGTH, WINDOW = 100.0, 3000, 300
BORDERS = range(WINDOW, LENGTH, WINDOW)


def recordings(count: int, *, length: int = LENGTH, seed: int = 0) -> np.ndarray:
    """AR(2) processes with a rhythm, (count, 4, length)."""
    noise = np.random.default_rng(seed).standard_normal((count, 4, length + 200))
    return lfilter([1], [1, -1.6, 0.9], noise)[..., 200:]


def test_a_process_without_borders_has_no_seams() -> None:
    found = seams(recordings(200), BORDERS, SFREQ)
    assert found.jump == pytest.approx(1, abs=0.02)
    assert found.envelope == pytest.approx(1, abs=0.02)
    assert found.spectrum < 0.2


def test_windows_side_by_side_jump() -> None:
    windows = recordings(80, length=WINDOW).reshape(8, 10, 4, WINDOW)
    found = seams(np.moveaxis(windows, 1, 2).reshape(8, 4, LENGTH), BORDERS, SFREQ)
    assert found.jump > 2
    assert found.spectrum > 2


def test_windows_that_fade_into_each_other_lose_power_at_borders() -> None:
    first, second = recordings(8, seed=1), recordings(8, seed=2)
    share = np.clip(np.abs((np.arange(LENGTH) + WINDOW / 2) % WINDOW - WINDOW / 2) / 50, 0, 1) / 2 + 0.5
    found = seams(share * first + (1 - share) * second, BORDERS, SFREQ)
    assert found.envelope == pytest.approx(0.8, abs=0.05)  # √(s² + (1 − s)²), mean of ±0.25 s
    assert found.jump == pytest.approx(0.71, abs=0.05)


def test_the_scale_of_signals_does_not_matter() -> None:
    x = recordings(3)
    first, second = (seams(factor * x, BORDERS, SFREQ) for factor in (1, 10))
    assert second.jump == pytest.approx(first.jump)
    assert second.spectrum == pytest.approx(first.spectrum)


def test_the_floor_is_the_interval_that_contains_recordings_without_borders() -> None:
    low, high = seam_floor(recordings(40), BORDERS, SFREQ, count=4, repeats=200)
    others = [seams(recordings(4, seed=seed), BORDERS, SFREQ) for seed in range(1, 81)]
    for name in ("jump", "envelope", "spectrum"):
        inside = [getattr(low, name) <= getattr(each, name) <= getattr(high, name) for each in others]
        assert np.mean(inside) == pytest.approx(0.95, abs=0.07), name


def test_the_floor_is_reproducible() -> None:
    assert seam_floor(recordings(3), BORDERS, SFREQ, count=2, repeats=5) == seam_floor(
        recordings(3), BORDERS, SFREQ, count=2, repeats=5
    )


def test_a_jump_of_known_size_is_measured() -> None:
    ramp = np.tile(np.arange(1000.0), (1, 2, 1))
    ramp[..., 500:] += 2  # 3 µV at the border, 1 µV elsewhere
    assert seams(ramp, [500], SFREQ).jump == pytest.approx(3)
