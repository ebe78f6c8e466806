"""Examples of single electrodes become whole windows, or an error names the window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import MappedTensors, open_split
from signal_diffusion.data.export.assembling import assemble_windows
from signal_diffusion.errors import UserError


def test_examples_of_single_electrodes_are_reassembled_into_windows(synthetic_dataset: Path, card: DatasetCard) -> None:
    split = open_split(synthetic_dataset, "validation")
    tensors = MappedTensors(split.data.column("image"), card.shape)[range(len(split))]
    metadata = split.remove_columns("image").to_pandas()
    shuffled = np.random.default_rng(0).permutation(len(split))
    windows, frame = assemble_windows(tensors[shuffled], card, metadata.iloc[shuffled])
    assert windows.shape == (card.splits["validation"]["windows"], 19, 1, 64, 64) and "electrode" not in frame
    first = (metadata["recording"] == frame["recording"][1]) & (metadata["window"] == frame["window"][1])
    assert np.array_equal(windows[1], tensors[first])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"electrode": ["Cz", "Cz"]}, "recording r, window 3: electrode Cz occurs 2 times"),
        ({"window": [3, 4]}, "recording r, window 3: electrode Pz occurs 0 times"),
        ({"electrode": ["Cz", "X1"]}, "electrode X1 is not in the card"),
        ({"recording": None}, "no column recording"),
    ],
)
def test_an_incomplete_window_is_an_error_that_names_it(
    card: DatasetCard, change: dict[str, Any], complaint: str
) -> None:
    metadata = {"recording": ["r", "r"], "window": [3, 3], "electrode": ["Cz", "Pz"]} | change
    metadata = {name: values for name, values in metadata.items() if values is not None}
    with pytest.raises(UserError, match=complaint):
        assemble_windows(np.zeros((2, 8)), replace(card, channels=("Cz", "Pz")), metadata)
