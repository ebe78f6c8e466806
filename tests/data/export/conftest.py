"""Samples to export: a card, windows of signals, and their metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signal_diffusion.data.card import DatasetCard


@pytest.fixture
def card(synthetic_dataset: Path) -> DatasetCard:
    return DatasetCard.load(synthetic_dataset)


@pytest.fixture
def windows() -> np.ndarray:
    """Four windows of 19 electrodes, µV, one of them with a blink."""
    signals = np.random.default_rng(0).normal(0, 20, (4, 19, 2048)).astype(np.float32)
    signals[2, 0, 700] = 312.7
    return signals


@pytest.fixture
def metadata() -> dict[str, Any]:
    return {
        "label": ["alert", "relaxed", "", "alert"],
        "gender": ["female", None, "male", "female"],
        "age": [31.0, 72.5, float("nan"), 20.0],
    }
